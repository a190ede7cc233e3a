#!/usr/bin/env bash
# Builds the operator's image, pushes it to the registry and installs it by the chart, with values for the local cluster
# (.cluster/env is sourced), or for the current one (CLUSTER=current, REGISTRY, PLAIN_HTTP=1 where it speaks HTTP, VALUES as for
# tests/demo/demo.sh). PROFILE=dev builds without optimization.
# ISOLATION=Rootless: builders without a user namespace of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
system=whittle-system
mkdir -p target/install
values=target/install/values.yaml
cat >"$values" <<YAML
builder:
  nodeProfiles: {kubeletPath: "${KUBELET_PATH:-/var/lib/kubelet}"}
  egress:
    allow:
      # Servers that tests start as Pods.
      - to:
          - namespaceSelector: {matchLabels: {whittle.dev/e2e: "true"}}
            podSelector: {matchExpressions: [{key: app, operator: In, values: [quirks, registry, sshd]}]}
$([[ -z ${BUILDER_EGRESS:-} ]] || echo "      - $BUILDER_EGRESS")
  defaults:
    cache: {size: 5Gi}
    isolation: ${ISOLATION:-Auto}
    # Many builders share a small machine.
    resources: {requests: {cpu: 50m, memory: 64Mi}}
YAML
more=() crane_flags=--insecure
if [[ ${CLUSTER:-local} == current ]]; then
  if [[ -n ${PLAIN_HTTP:-} ]]; then
    printf '    registries:\n      - {host: "%s", plainHTTP: true}\n' "${REGISTRY%%/*}" >>"$values"
  else
    crane_flags=''
  fi
  if [[ -n ${VALUES:-} ]]; then more+=(--values "$VALUES"); fi
else
  cat >>"$values" <<YAML
    registries:
      - {host: "$REGISTRY", plainHTTP: true}
      - {host: docker.io, mirrors: ["$REGISTRY"]}
      - {host: gcr.io, mirrors: ["$REGISTRY"]}
YAML
fi
pushed=$(CRANE_FLAGS=$crane_flags CRANE=$(command -v crane) BUILDCTL=$(command -v buildctl || true) \
  config/image/build.sh "$REGISTRY_HOST/whittle/whittle:dev")
kubectl create namespace "$system" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
# For the DaemonSet that puts the builders' seccomp profile on the node.
kubectl label namespace "$system" pod-security.kubernetes.io/enforce=privileged --overwrite >/dev/null
# What an interrupted installation left half done.
if helm status whittle --namespace "$system" -o json 2>/dev/null | grep -q '"status":"pending-'; then
  helm uninstall whittle --namespace "$system" --wait >/dev/null
fi
# By digest: the tag stays while the program changes.
helm upgrade --install whittle charts/whittle --namespace "$system" --values "$values" \
  --set "image.repository=$REGISTRY/whittle/whittle" --set "image.digest=${pushed##*@}" \
  --set "test.repository=$REGISTRY/whittle/helm-test" "${more[@]}" --wait --timeout 3m >/dev/null
kubectl get deployment whittle --namespace "$system"
