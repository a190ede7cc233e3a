#!/usr/bin/env bash
# Builds the static program for this machine and prints its path. WHITTLE=path takes one that is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ -n ${WHITTLE:-} ]]; then
  echo "$WHITTLE"
  exit
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Its own target folder: other flags, and no quarrel with the everyday one.
quiet=--quiet
if [[ -t 2 ]]; then quiet=--color=auto; fi
RUSTFLAGS="-C target-feature=+crt-static" cargo build "$quiet" --locked --release --bin whittle \
  --target "$host" --target-dir target/static >&2
echo "target/static/$host/release/whittle"
