#!/usr/bin/env bash
# Builds the documentation as a site into target/site, and checks it: each link and anchor of the built pages leads somewhere, each
# page of docs/ is in SUMMARY.md, and nothing is loaded from elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$(config/tools/install.sh):$PATH"

rm -rf target/site
# mdBook warns, and goes on, where the search index or a page is not as it should be: here that is an error.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mdbook build config/site 2>"$log" || { cat "$log" >&2; exit 1; }
if grep -E 'WARN|ERROR' "$log" >&2; then
  echo "mdbook warns of the above" >&2
  exit 1
fi
python3 config/site/check.py docs target/site
