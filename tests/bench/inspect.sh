#!/usr/bin/env bash
# Measures `whittle inspect` against `crane export | tar t`, or, with `minimize` as its argument, `whittle minimize` against
# `whittle inspect`: time, CPU and memory, on images of 15 MB, 222 MB and 1 GB that it makes and serves itself, from one registry on
# this machine. Needs no cluster, 3 GB of disk, and leaves nothing behind but what was built. RUNS=5
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${RUNS:-5}
out=${CARGO_TARGET_DIR:-target}/bench
mkdir -p "$out"
out=$(realpath "$out")

cargo build --quiet --locked --release --bin whittle
whittle=$(realpath "${CARGO_TARGET_DIR:-target}/release/whittle")
crane=$(cd tests/cluster && go run . build crane)/crane
(cd tests/bench/inspect && go build -o "$out/inspect" .)

work=$(mktemp -d "$out/inspect.XXXXXX")
registry=
finish() {
  if [[ -n $registry ]]; then kill "$registry" 2>/dev/null || true; wait "$registry" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

mkdir "$work/registry"
"$crane" registry serve --address 127.0.0.1:0 --disk "$work/registry" >"$work/log" 2>&1 &
registry=$!
port=
for _ in $(seq 100); do
  port=$(sed -n 's/.*serving on port \([0-9]*\)$/\1/p' "$work/log")
  if [[ -n $port ]]; then break; fi
  sleep 0.1
done
if [[ -z $port ]]; then cat "$work/log" >&2; echo "bench: the registry does not start" >&2; exit 1; fi
address=127.0.0.1:$port

names=()
for size in 15MB 222MB 1GB; do
  "$out/inspect" image "$size" "$work/layout"
  "$crane" push --insecure "$work/layout" "$address/bench:$size" >/dev/null 2>>"$work/log"
  rm -rf "$work/layout"
  names+=("$address/bench:$size")
done
case ${1:-inspect} in
  minimize) "$out/inspect" minimize "$runs" "$whittle" "${names[@]}" ;;
  *) "$out/inspect" compare "$runs" "$whittle" "$crane" "${names[@]}" ;;
esac
