#!/usr/bin/env bash
# What `make test` takes a sample of, whole: the tables of images, of probes, of kills and of samples (docs/truth.md,
# docs/probe-truth.md and docs/kills.md are copies of the first three); ImageBuilds by the thousand; fuzzing and random
# scripts for longer.
set -euo pipefail
cd "$(dirname "$0")/.."
export LONG=1
stage() { printf '\n▸ %s\n' "$1"; }

stage "Random scripts in real shells, 1,000 for each"
SCRIPTS=1000 make --no-print-directory test-shells

stage "ImageBuilds by the thousand, on a real API server"
IMAGE_BUILDS=1000 make --no-print-directory test-integration T='finished:: many_ordinary_image_builds'

stage "The controller, killed at each of its calls; faults that last a minute"
rm -rf target/kills
make --no-print-directory test-integration T='kills:: faults::'
{
  echo '| scene | call | which | killed | builds started | finished | duplicates |'
  echo '|---|---|---|---|---|---|---|'
  cat target/kills/*.md
} >target/kills.md

stage "The tables of images, probes and samples, whole; faults of the cluster that last a minute"
make --no-print-directory test-e2e T='truth:: pairs:: all_samples:: faults::'

stage "Flux's own source-controller"
make --no-print-directory test-e2e T='--include-ignored flux_real::'

stage "Kueue itself"
make --no-print-directory test-e2e T='--include-ignored kueue_real::'

stage "A real OpenTelemetry Collector"
make --no-print-directory test-e2e T='--include-ignored traces_real::'

stage "Fuzzing, 60 seconds each"
SECONDS_EACH=60 make --no-print-directory fuzz
