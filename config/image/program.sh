#!/usr/bin/env bash
# Builds the static program of the operator's image, and prints its path. PROFILE=dev builds it without optimization, which
# after a change of a line takes a fraction of the time: for tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
host=$(rustc -vV | sed -n 's/^host: //p')
quiet=--quiet
if [[ -t 2 ]]; then quiet=--color=auto; fi
# Its own target folder: other flags, and no quarrel with the everyday one.
build=(cargo build "$quiet" --locked --bin whittle --target "$host" --target-dir target/static)
export RUSTFLAGS="-C target-feature=+crt-static"
case ${PROFILE:-release} in
  release)
    "${build[@]}" --release
    echo "target/static/$host/release/whittle"
    ;;
  dev)
    "${build[@]}"
    # Without its symbols, which are most of it.
    strip -o "target/static/$host/debug/whittle.stripped" "target/static/$host/debug/whittle"
    echo "target/static/$host/debug/whittle.stripped"
    ;;
  *) echo "PROFILE=$PROFILE: there are release and dev" >&2; exit 1 ;;
esac
