#!/usr/bin/env bash
# Prints the folder that has Debian's prometheus and promtool, which it fetches and unpacks where they are not there yet: nothing is
# installed, and no service started.
set -euo pipefail
if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
  dirname "$(command -v prometheus)"
  exit 0
fi
folder=${XDG_CACHE_HOME:-$HOME/.cache}/whittle/tools/prometheus-$(uname -m)
if [[ ! -e $folder/complete ]]; then
  mkdir -p "${folder%/*}"
  exec 9>"$folder.lock"
  flock 9
  if [[ ! -e $folder/complete ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cd "$folder"
    apt-get download prometheus >&2 || { echo "Debian's package prometheus cannot be fetched: apt-get update, and again" >&2; exit 1; }
    dpkg -x prometheus_*.deb .
    rm prometheus_*.deb
    touch complete
  fi
fi
echo "$folder/usr/bin"
