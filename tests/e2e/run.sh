#!/usr/bin/env bash
# Runs the end-to-end tests: on the local cluster, with the operator of this checkout.
set -euo pipefail
cd "$(dirname "$0")/../.."
make --no-print-directory cluster
source .cluster/env
tests/install.sh
# They mostly wait for the cluster: more at a time than there are processors.
cargo test --locked --test e2e -- --test-threads 4 "$@"
# What the samples came to, and what became of images that do not start and of probes that cannot work.
if [[ -z ${1:-} ]]; then cat target/samples.md target/truth.md target/pairs.md; fi
