#!/usr/bin/env bash
# Runs the benchmark on the local cluster, where `make demo` has installed Whittle.
set -euo pipefail
cd "$(dirname "$0")/../.."
make --no-print-directory cluster
source .cluster/env
kubectl get builder default -n demo >/dev/null || { echo "bench: run make demo first" >&2; exit 1; }
mkdir -p target/bench
(cd tests/cluster && go build -o ../../target/bench/node .)
# They wait for a cluster: their own speed does not count, and what tests have built is there.
NODE_EXEC="$PWD/target/bench/node exec" cargo test --locked --quiet --bench build
cargo test --locked --quiet --bench admission
