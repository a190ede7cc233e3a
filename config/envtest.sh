#!/usr/bin/env bash
# Prints a folder with etcd, kube-apiserver and helm for `make test-integration`, downloaded where there is a network,
# which is quicker than building them: CLUSTER_BIN="$(config/envtest.sh)" make test-integration
set -euo pipefail
cd "$(dirname "$0")/.."

# renovate: datasource=go depName=sigs.k8s.io/controller-runtime/tools/setup-envtest
setup_envtest=v0.25.1
# The minor version of the local cluster's own Kubernetes; the newest patch of it.
kubernetes=$(sed -n 's|^\tk8s.io/kubernetes v\([0-9]*\.[0-9]*\)\..*|\1|p' tests/cluster/components/kubernetes/go.mod)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/whittle/envtest
assets=$(go run "sigs.k8s.io/controller-runtime/tools/setup-envtest@$setup_envtest" use "$kubernetes.x" --bin-dir "$cache" -p path)
bin=$cache/bin-$kubernetes
mkdir -p "$bin"
ln -sf "$assets/etcd" "$assets/kube-apiserver" "$bin/"
ln -sf "$(cd tests/cluster && go run . build helm)/helm" "$bin/helm"
echo "$bin"
