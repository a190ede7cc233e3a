#!/usr/bin/env bash
# Runs the end-to-end tests, all or those whose names have one of these parts: tests/e2e/run.sh [PART…]
#
#   PROFILE=dev      the operator is built without optimization, which is quicker after a change
#   CLUSTER=local    on the local cluster, which it starts (default)
#   CLUSTER=current  on the cluster of the current kube context: give REGISTRY=registry.example.com/team. What tests take
#                    from the local cluster stands in the environment as tests/cluster/README.md has it; a test that misses
#                    a variable says which.
#   LONG=1           the long tables whole
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ ${CLUSTER:-local} == current ]]; then
  : "${REGISTRY:?CLUSTER=current needs REGISTRY, for example REGISTRY=registry.example.com/team}"
  for tool in kubectl helm crane; do
    command -v "$tool" >/dev/null || { echo "CLUSTER=current needs $tool" >&2; exit 1; }
  done
  export REGISTRY REGISTRY_HOST=${REGISTRY_HOST:-$REGISTRY}
else
  make --no-print-directory cluster
  source .cluster/env
fi
tests/install.sh
# As it is in that image: `whittle build --local --check` runs within others.
WHITTLE_STATIC=$PWD/$(config/image/program.sh)
export WHITTLE_STATIC
PATH="$(config/tools/install.sh):$PATH"
cargo nextest run --locked --test e2e --profile e2e -- "$@"
# What the samples came to, and what became of images that do not start and of probes that cannot work.
if [[ -z ${1:-} ]]; then
  suffix=-sample
  if [[ -n ${LONG:-} ]]; then suffix=''; fi
  cat "target/samples$suffix.md" "target/truth$suffix.md" "target/pairs$suffix.md"
fi
