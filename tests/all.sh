#!/usr/bin/env bash
# All tests, in the order in which a mistake shows soonest; of the long tables a sample, which tests/long.sh runs whole. The cluster's programs build in the
# background meanwhile: the first time that takes as long as all the rest. So does the operator's own program, beside what only compiles.
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
stage() { printf '\n▸ %s  (%d min %02d s)\n' "$1" $(((SECONDS - begun) / 60)) $(((SECONDS - begun) % 60)); }

stage "What this machine lacks: the only step that installs anything"
tests/packages.sh

log=$(mktemp)
echo "The cluster comes up in the background: $log"
make --no-print-directory cluster >"$log" 2>&1 &
cluster=$!
program=''
finish() {
  # Interrupted: the cluster's start is safe to interrupt, too.
  local pid
  for pid in "$cluster" $program; do
    if kill -0 "$pid" 2>/dev/null; then kill -TERM "$pid" 2>/dev/null || true; fi
  done
}
trap finish EXIT

# What runs in the background writes to the log; $2: what its failure is.
awaited() {
  wait "$1" && return
  cat "$log"
  echo "$2: its output stands above" >&2
  exit 1
}

stage "Unit tests and snapshots"
make --no-print-directory test-unit

stage "Waiting for the cluster"
awaited "$cluster" "the cluster did not come up"
tail -n 2 "$log"

echo "The operator's program is built in the background: $log"
config/image/program.sh >"$log" 2>&1 &
program=$!

stage "Formatting, clippy, documentation, dependencies, scripts, chart, generated files"
make --no-print-directory lint

stage "Random scripts in real shells"
make --no-print-directory test-shells

stage "The page of an image, in a browser"
make --no-print-directory test-browser

stage "Argo CD's scripts"
make --no-print-directory test-argocd

stage "The YAML of docs/, by a real API server"
make --no-print-directory test-docs

stage "Waiting for the operator's program: tests that wait for each other begin now"
awaited "$program" "the operator's program cannot be built"

echo "What is fuzzed is built in the background: $log"
nice tests/fuzz/run.sh build >"$log" 2>&1 &
program=$!

stage "The controller on a real API server"
make --no-print-directory test-integration

stage "What reads layers, ELF files, manifests, commands and YAML, fuzzed for 12 seconds each"
awaited "$program" "what is fuzzed cannot be built"
program=''
rm -f "$log"
SECONDS_EACH=12 make --no-print-directory fuzz

stage "End to end, on the cluster"
make --no-print-directory test-e2e

stage "A first image without a cluster, and the demo; both check what they show"
make --no-print-directory try
make --no-print-directory demo

stage "The tutorial, as it is written"
make --no-print-directory test-tutorial

stage "All tests passed"
