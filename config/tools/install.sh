#!/usr/bin/env bash
# Installs the programs of requirements.txt, in exactly these versions, unless they are there already, and prints the folder that
# has them. They lie in the cache outside the checkout; nothing of the machine's own changes.
set -euo pipefail
cd "$(dirname "$0")"

# Another list is another folder; so is another machine on the same home folder.
key=$({ uname -m; cat requirements.txt; } | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/whittle/tools/$key
if [[ ! -e $folder/complete ]]; then
  mkdir -p "${folder%/*}"
  # One at a time, and never half of it: a folder has its own path in its programs, so it is marked and not renamed.
  exec 9>"$folder.lock"
  flock 9
  if [[ ! -e $folder/complete ]]; then
    rm -rf "$folder"
    python3 -c 'import ensurepip, venv' 2>/dev/null || {
      echo "python3 with venv is missing: make packages, or apt-get install python3-venv" >&2
      exit 1
    }
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
      --requirement requirements.txt >&2 || { rm -rf "$folder"; echo "the programs of config/tools/requirements.txt cannot be installed" >&2; exit 1; }
    touch "$folder/complete"
  fi
fi
echo "$folder/bin"
