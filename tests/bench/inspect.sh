#!/usr/bin/env bash
# Measures `whittle inspect` against `crane export | tar t`, or, with `minimize` as its argument, `whittle minimize` against
# `whittle inspect`: time, CPU and memory, on images of 15 MB, 222 MB and 1 GB that it makes and serves itself, from one registry on
# this machine. `minimize` goes on with hostile images: what comes of each, once, and it fails where that is wrong; `hostile` does that
# alone. Needs no cluster, 3 GB of disk, and leaves nothing behind but what was built. RUNS=5
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

# Puts the images of these names into the registry, and their references into `names`.
serve() {
  names=()
  for image; do
    "$out/inspect" image "$image" "$work/layout"
    "$crane" push --insecure "$work/layout" "$address/bench:$image" >/dev/null 2>>"$work/log"
    rm -rf "$work/layout"
    names+=("$address/bench:$image")
  done
}
hostile() {
  mapfile -t images < <("$out/inspect" hostile)
  serve "${images[@]}"
  "$out/inspect" hostile "$whittle" "$crane" "${names[@]}"
}
case ${1:-inspect} in
  minimize)
    serve 15MB 222MB 1GB
    "$out/inspect" minimize "$runs" "$whittle" "${names[@]}"
    echo
    hostile
    ;;
  hostile) hostile ;;
  *)
    serve 15MB 222MB 1GB
    "$out/inspect" compare "$runs" "$whittle" "$crane" "${names[@]}"
    ;;
esac
