#!/usr/bin/env bash
# Measures Whittle against its peers on the local cluster, where `make demo` has installed it. Shipwright, Tekton and buildx are built
# from their Go modules, installed and removed again; with RUNS=0 what a run that was killed has left is removed, and no more.
set -euo pipefail
cd "$(dirname "$0")/../.."
make --no-print-directory cluster
source .cluster/env
if [[ ${RUNS:-} != 0 ]]; then
  kubectl get builder default -n demo >/dev/null || { echo "bench: run make demo first" >&2; exit 1; }
fi
mkdir -p target/bench
(cd tests/cluster && go build -o ../../target/bench/node .)
# Its own speed does not count: as tests are built.
cargo build --locked --bench peers
peers=$(cargo build --locked --bench peers --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/peers-[^"]*\)".*/\1/p')
# In the place of this script: what interrupts it ends with what it has installed removed.
export NODE_EXEC="$PWD/target/bench/node exec"
exec "$peers"
