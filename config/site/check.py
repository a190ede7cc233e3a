"""Checks the built site: check.py DOCS SITE. Nothing but Python's own library.

- each Markdown page of DOCS is in SUMMARY.md, once, and was built
- each relative link of a built page leads to a file of the site, and its #anchor to an element of that page
- no page loads a script, style, image, font or frame from elsewhere: the site works offline
- the search index has every page
- each SVG is well-formed XML
"""
import json
import os
import re
import sys
import urllib.parse
import xml.etree.ElementTree
from html.parser import HTMLParser

# What a browser fetches by itself; `a` and `form` wait for a click.
LOADS = {
    ("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("audio", "src"),
    ("object", "data"), ("embed", "src"), ("img", "srcset"), ("use", "href"),
}
# Of <link>, only these are fetched.
FETCHED_RELS = {"stylesheet", "icon", "shortcut icon", "preload", "prefetch", "manifest", "modulepreload"}
ELSEWHERE = re.compile(r"^([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
# In styles and scripts: url(http…), @import "http…", fetch("http…"), importScripts("http…"), new Worker("http…")
REMOTE = re.compile(r"""(?:url\(|@import|fetch\(|importScripts\(|Worker\(|\.src\s*=)\s*(?:url\()?["']?(?:https?:)?//""")


class Page(HTMLParser):
    """Names and links of one page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.names = set()
        self.links = []
        self.loads = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        for name in ("id", "name"):
            if values.get(name) and (name == "id" or tag == "a"):
                self.names.add(values[name])
        for name, value in attrs:
            if value is None:
                continue
            if (tag, name) in LOADS and (tag != "link" or values.get("rel", "").lower() in FETCHED_RELS):
                self.loads.append(value)
            if name in ("href", "src") and tag != "base":
                self.links.append((self.getpos()[0], value))

    handle_startendtag = handle_starttag


def files(folder, *ends):
    for path, _, names in os.walk(folder):
        for name in names:
            if name.endswith(ends):
                yield os.path.relpath(os.path.join(path, name), folder)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def in_summary(docs):
    """Pages that SUMMARY.md names, and mistakes in it."""
    named = re.findall(r"\]\(([^)#]+\.md)\)", read(docs, "SUMMARY.md"))
    pages = [page for page in sorted(files(docs, ".md")) if page != "SUMMARY.md"]
    wrong = [f"docs/SUMMARY.md: {page} is missing: readers of the site do not find it" for page in pages if page not in named]
    wrong += [f"docs/SUMMARY.md: {page} is there {named.count(page)} times" for page in sorted(set(named)) if named.count(page) > 1]
    wrong += [f"docs/SUMMARY.md: {page} does not exist" for page in named if page not in pages]
    return named, wrong


def built(page):
    """The built page of a Markdown file."""
    return re.sub(r"README\.md$", "index.md", page)[:-3] + ".html"


def links(site, pages):
    """How many links there are, and those that lead nowhere."""
    count, wrong = 0, []
    for path, page in sorted(pages.items()):
        for line, link in page.links:
            if ELSEWHERE.match(link):
                continue
            count += 1
            target, _, anchor = link.partition("#")
            target = urllib.parse.unquote(target.partition("?")[0])
            # The start of the page; mdBook's own scripts use it.
            to = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            if os.path.isdir(os.path.join(site, to)):
                to = os.path.join(to, "index.html")
            if not os.path.exists(os.path.join(site, to)):
                wrong.append(f"{path}:{line}: {link}: no such file in the site")
            elif anchor and to in pages and urllib.parse.unquote(anchor) not in pages[to].names:
                wrong.append(f"{path}:{line}: {link}: no such anchor in {to}")
    return count, wrong


def remote(site, pages):
    """What would be loaded from elsewhere."""
    wrong = []
    for path, page in sorted(pages.items()):
        wrong += [f"{path}: loads {link}" for link in page.loads if ELSEWHERE.match(link) and not link.startswith("data:")]
    for path in sorted(files(site, ".css", ".js", ".html", ".svg")):
        wrong += [f"{path}: loads {match[0]}…" for match in REMOTE.finditer(read(site, path))]
    return wrong


def search(site, named):
    """Pages that the search index does not have."""
    found = [path for path in os.listdir(site) if re.fullmatch(r"searchindex.*\.js", path)]
    if len(found) != 1:
        return [f"searchindex: {len(found)} files, and not one"]
    text = read(site, found[0])
    # A call with the index as JSON text.
    quoted = re.search(r"""JSON\.parse\('(.*)'\)""", text, re.DOTALL)
    index = json.loads(quoted[1].replace("\\'", "'").replace("\\\\", "\\")) if quoted else json.loads(text[text.index("{") : text.rindex("}") + 1])
    has = {url.partition("#")[0] for url in index["doc_urls"]}
    return [f"searchindex: {page} is missing" for page in sorted(set(map(built, named)) - has)]


def drawings(docs):
    wrong = []
    for path in sorted(files(docs, ".svg")):
        try:
            xml.etree.ElementTree.parse(os.path.join(docs, path))
        except xml.etree.ElementTree.ParseError as error:
            wrong.append(f"docs/{path}: not well-formed XML: {error}")
    return wrong


def main(docs, site):
    named, wrong = in_summary(docs)
    pages = {}
    for path in files(site, ".html"):
        pages[path] = Page()
        pages[path].feed(read(site, path))
    wrong += [f"{page}: was not built" for page in named if built(page) not in pages]
    count, broken = links(site, pages)
    wrong += broken + remote(site, pages) + search(site, named) + drawings(docs)
    if not count or not pages:
        wrong.append("no links found: this check is broken")
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} mistakes in the site")
    print(f"{len(named)} pages, {count} links within the site: fine; open target/site/index.html")


main(*sys.argv[1:])
