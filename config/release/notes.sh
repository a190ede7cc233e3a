#!/usr/bin/env bash
# Prints the changelog's section of a version: config/release/notes.sh 1.2.3 (or Unreleased)
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=${1:?usage: config/release/notes.sh VERSION, for example 1.2.3}
# Ends at the next version or at the list of links below them all; blank lines around it are left out.
notes=$(awk -v heading="## [$wanted]" '
  index($0, "## ") == 1 { inside = index($0, heading) == 1; next }
  /^\[[^]]*\]: / { next }
  inside { print }
' CHANGELOG.md | sed -e '/./,$!d')
if [[ -z $notes ]]; then
  echo "CHANGELOG.md has no section '## [$wanted]', or an empty one" >&2
  exit 1
fi
printf '%s\n' "$notes"
