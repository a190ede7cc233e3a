"""mdBook asks it for each book: links from docs/ to files elsewhere in the repository become links to GitHub.

It reads [context, book] as JSON, and prints the book. Nothing but Python's own library.
"""
import json
import os
import re
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
DOCS = os.path.join(ROOT, "docs")
REPOSITORY = "https://github.com/whittle-dev/whittle"
# A link that starts with ../, in any form that Markdown has: (../x), (../x "title"), [name]: ../x
LINK = re.compile(r"(\]\(|^ *\[[^\]]+\]: +)((?:\.\./)+[^)\s#]*)", re.MULTILINE)
FENCE = re.compile(r"^ *(```+|~~~+)")


def outward(folder, match):
    """The link as it leads to the repository, or as it was where it stays within docs/."""
    path = os.path.normpath(os.path.join(folder, match[2]))
    if path.startswith(DOCS + os.sep) or path == DOCS:
        return match[0]
    if not os.path.exists(path):
        sys.exit(f"{os.path.relpath(folder, ROOT)}: {match[2]}: no such file in the repository")
    kind = "tree" if os.path.isdir(path) else "blob"
    return f"{match[1]}{REPOSITORY}/{kind}/main/{os.path.relpath(path, ROOT)}"


def rewrite(text, folder):
    """The page with such links; what is in fences stays."""
    lines, fence = [], ""
    for line in text.splitlines(keepends=True):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1][:3]
        lines.append(line if fence or mark else LINK.sub(lambda m: outward(folder, m), line))
    return "".join(lines)


def walk(items):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter["source_path"]:
                folder = os.path.dirname(os.path.join(DOCS, chapter["source_path"]))
                chapter["content"] = rewrite(chapter["content"], folder)
            walk(chapter["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    walk(book.get("items") or book.get("sections"))
    json.dump(book, sys.stdout)


main()
