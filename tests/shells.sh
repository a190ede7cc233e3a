#!/usr/bin/env bash
# What is said of scripts, against real shells: dash, bash, busybox and mksh run random ones. The shells come from
# Debian's packages, unpacked into the cache and not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(dash bash busybox-static mksh)
shells=${XDG_CACHE_HOME:-$HOME/.cache}/whittle/shells-1
if [ ! -d "$shells" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/debs" "$work/root" "$work/shells" "$(dirname "$shells")"
  chmod 777 "$work" "$work/debs"
  fetch() { (cd "$work/debs" && apt-get -q -o Acquire::Retries=3 download "${packages[@]}"); }
  fetch || { apt-get -q update && fetch; }
  for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  for name in dash bash busybox mksh; do
    for folder in bin usr/bin; do
      # Some are links to another name within the package.
      if [ -e "$work/root/$folder/$name" ]; then cp -L "$work/root/$folder/$name" "$work/shells/$name"; fi
    done
  done
  mv "$work/shells" "$shells"
fi
SHELLS=$shells cargo test --locked --lib -- --ignored --nocapture what_is_said_of_scripts
