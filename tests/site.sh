#!/usr/bin/env bash
# The built site (make site) in a real browser, from files and without a network: its search finds pages, drawings are drawn, and no page
# asks for anything elsewhere. Names of hosts are never resolved, so nothing is sent.
set -euo pipefail
cd "$(dirname "$0")/.."
browser=$(command -v chromium || command -v chromium-browser || true)
if [[ -z $browser ]]; then
  echo "the site in a browser: not run, chromium is missing: apt-get install chromium"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "the site in a browser: $*" >&2; exit 1; }

page() { # page: its document once its scripts have run; what it asked for goes into net.json
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --disable-default-apps --host-resolver-rules='MAP * ~NOTFOUND' --user-data-dir="$work/profile" \
    --log-net-log="$work/net.json" --virtual-time-budget=10000 --dump-dom "file://$PWD/target/site/$1" 2>"$work/said" >"$work/dom" ||
    die "$1: $(tail -n 3 "$work/said")"
  # The browser asks its maker's servers for things of its own; fonts and scripts from there would be the page's.
  if grep -oE '"url":"(https?|wss?|ftp)://[^"]*"' "$work/net.json" | sort -u |
    awk '!/:\/\/([a-z0-9-]+\.)*(google|googleapis|gvt1)\.com\// || /:\/\/(fonts|ajax|maps)\./ { print; found = 1 } END { exit !found }' >&2; then
    die "$1 asks for the above"
  fi
}

page 'index.html?search=immutable'
grep -qE '[0-9]+ search results? for .immutable' "$work/dom" || die "the search finds nothing"
grep -q 'href="registries.html?highlight=immutable' "$work/dom" || die "the search does not find registries.html"
page 'how-it-works.html'
grep -q 'diagrams/pieces.svg' "$work/dom" || die "how-it-works.html has no drawing"
grep -q 'href="tutorial.html"' "$work/dom" || die "the list of pages is missing"
echo "the site in a browser: fine"
