#!/usr/bin/env bash
# Fails where a link within the repository leads nowhere: each relative link of a Markdown file that git knows (or would
# add) must name a file or folder, and its #anchor a heading there. Links to other sites are not followed.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.md' | sort -u)
headings=$(mktemp) links=$(mktemp)
trap 'rm -f "$headings" "$links"' EXIT

# One pass over all files: headings as GitHub makes anchors of them, and links with their places.
awk -v headings="$headings" -v links="$links" '
  # Text in backquotes is none of ours to read; what a heading shows is its text without marks.
  function anchor(text,   n) {
    text = tolower(text)
    while (match(text, /\[[^]]*\]\([^)]*\)/)) {
      n = substr(text, RSTART, RLENGTH); sub(/^\[/, "", n); sub(/\]\(.*$/, "", n)
      text = substr(text, 1, RSTART - 1) n substr(text, RSTART + RLENGTH)
    }
    gsub(/[][`~!@#$%^&*()+={}|\\:;"'"'"'<>,.?\/]|…|–|—|“|”|→|·/, "", text)
    sub(/ +$/, "", text)
    gsub(/ /, "-", text)
    return text
  }
  FNR == 1 { fence = ""; split("", seen) }
  # A fence ends with the marks that it began with.
  match($0, /^ *(```+|~~~+)/) {
    mark = $0; sub(/^ */, "", mark); mark = substr(mark, 1, 3)
    if (fence == "") { fence = mark } else if (fence == mark) { fence = "" }
    next
  }
  fence != "" { next }
  /^#+ / {
    text = $0; sub(/^#+ +/, "", text); sub(/ +#+ *$/, "", text); name = anchor(text)
    print FILENAME "#" name (seen[name] ? "-" seen[name] : "") >headings
    seen[name]++
  }
  {
    line = $0
    gsub(/`[^`]*`/, "", line)
    # An anchor of HTML counts, too.
    rest = line
    while (match(rest, /<a (id|name)="[^"]*"/)) {
      id = substr(rest, RSTART, RLENGTH); sub(/^[^"]*"/, "", id); sub(/"$/, "", id)
      print FILENAME "#" id >headings
      rest = substr(rest, RSTART + RLENGTH)
    }
    while (match(line, /\]\([^() ]+(\([^() ]*\)[^() ]*)*( "[^"]*")?\)/)) {
      target = substr(line, RSTART + 2, RLENGTH - 3); sub(/ ".*/, "", target)
      print FILENAME "\t" FNR "\t" target >links
      line = substr(line, RSTART + RLENGTH)
    }
    if (match($0, /^ *\[[^]]+\]: +[^ ]+/)) {
      target = substr($0, RSTART, RLENGTH); sub(/^ *\[[^]]+\]: +/, "", target)
      print FILENAME "\t" FNR "\t" target >links
    }
  }
' "${files[@]}"

count=0 broken=0
while IFS=$'\t' read -r file line target; do
  # Another site, or a mail address.
  if [[ $target =~ ^[a-z][a-z+.-]*: ]]; then continue; fi
  count=$((count + 1))
  path=${target%%#*} fragment=
  if [[ $target == *'#'* ]]; then fragment=${target#*#}; fi
  if [[ -z $path ]]; then
    to=$file
  elif [[ $path == /* ]]; then
    to=${path#/}
  else
    to=$(realpath --no-symlinks --canonicalize-missing --relative-to=. "$(dirname "$file")/$path")
  fi
  if [[ ! -e $to ]]; then
    echo "$file:$line: $target: no such file" >&2
    broken=$((broken + 1))
  elif [[ -n $fragment && $to == *.md ]] && ! grep -qxF -- "$to#$fragment" "$headings"; then
    echo "$file:$line: $target: no such heading in $to" >&2
    broken=$((broken + 1))
  fi
done <"$links"
if ((broken)); then
  echo "$broken of $count links within the repository are broken" >&2
  exit 1
fi
# None found would be a mistake of this script.
((count > 0)) || { echo "no links found in ${#files[@]} files" >&2; exit 1; }
echo "$count links in ${#files[@]} files: fine"
