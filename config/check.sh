#!/usr/bin/env bash
# Checks what installs Whittle: generated files are up to date, the chart lints and renders, and its schema
# refuses what is wrong. Needs no cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(cd tests/cluster && go run . build helm kubectl)
helm=${HELM:-$tools/helm}
export HELM=$helm

config/generate.sh --check
"$helm" lint --strict --quiet charts/whittle

fail() { echo "chart: $*" >&2; exit 1; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT
render() { "$helm" template whittle charts/whittle --namespace whittle-system "$@" >"$out" 2>&1; }

# Values that render, and a line that must then be there.
renders() { # expected line, helm arguments…
  local expected=$1
  shift
  render "$@" || fail "does not render with $*: $(cat "$out")"
  grep -qE -- "$expected" "$out" || fail "with $*: no line matches $expected"
}
renders 'image: ghcr.io/whittle-dev/whittle:[0-9]' --set logLevel=debug
renders 'image: r.example.com/w@sha256:a{64}' --set image.repository=r.example.com/w --set "image.digest=sha256:$(printf 'a%.0s' {1..64})"
renders '"image": "r.example.com/w:x"' --set image.repository=r.example.com/w,image.tag=x
renders 'key: whittle.dev/build' --set buildSecrets.requireLabel=true
renders '"scratchSize": "2Gi"' --set runner.scratchSize=2Gi
renders 'spec.tolerations.all\(t, has\(t.key\) && t.key in \["builds"\]\)' --set 'builder.tenants.tolerations={builds}'
renders '"image": "r.example.com/runner:1"' --set runner.image=r.example.com/runner:1
renders '"plainHTTP": true' --set 'builder.defaults.registries[0].host=a:5000,builder.defaults.registries[0].plainHTTP=true'
renders '"size": "1Pi"' --set builder.defaults.cache.size=1Pi
renders '"cpu": 2$' --set builder.defaults.resources.limits.cpu=2
renders '"url": "https://x:1"' --set callback.url=https://x:1
renders 'kind: ServiceMonitor' --set serviceMonitor.enabled=true
renders 'pathType: Prefix' --set webhooks.ingress.enabled=true,webhooks.ingress.host=hooks.example.com
renders 'kind: HTTPRoute' --set 'webhooks.httpRoute.enabled=true,webhooks.httpRoute.parentRefs[0].name=gateway'
renders '"secretFile": "/etc/whittle-webhooks/secret"' --set webhooks.secret.name=hooks
renders '"maxConcurrent": 3$' --set triggers.maxConcurrent=3
renders '- Egress' --set networkPolicy.egress.enabled=true
renders '"url": "https://e.example.com/x"' --set notifications.sink.url=https://e.example.com/x
renders '"tokenFile": "/etc/whittle-sink/token"' --set notifications.sink.url=https://e,notifications.sink.tokenSecret.name=t
renders 'secretName: t$' --set notifications.sink.url=https://e,notifications.sink.tokenSecret.name=t
render --set notifications.sink.tokenSecret.name=t && ! grep -q 'secretName: t$' "$out" || fail "a token is mounted though there is no sink"
renders 'helm.sh/resource-policy: keep' --set commonLabels.team=x
renders 'serviceAccountName: other' --set serviceAccount.create=false,serviceAccount.name=other
renders 'priorityClassName: high' --set priorityClassName=high
renders 'name: zz-controller' --set fullnameOverride=zz
renders 'resourceNames: \[zz-controller\]' --set fullnameOverride=zz
renders 'kind: PodDisruptionBudget' --set replicas=2
renders 'whenUnsatisfiable: ScheduleAnyway' --set replicas=2
renders 'port: 8443}' --set networkPolicy.egress.enabled=true
renders '"\$\(POD_NAMESPACE\)/zz"' --set fullnameOverride=zz
renders '- name: regcred' --set 'imagePullSecrets[0].name=regcred'
renders '- name: regcred' --set 'imagePullSecrets={regcred}'
renders '^ +"regcred"' --set 'runner.imagePullSecrets[0].name=regcred'
renders '^ +"regcred"' --set 'builder.imagePullSecrets[0].name=regcred'
renders 'name: zz-self-pods' --set fullnameOverride=zz
renders 'c.image in ..r.example.com/runner:1","r.example.com/m:1"' --set runner.image=r.example.com/runner:1,selfGuard.extraImages='{r.example.com/m:1}'
renders '\["cost-center"\].exists\(p, k.startsWith\(p\)\)' --set selfGuard.extraLabels='{cost-center}'
renders 'namespace: team-b' --set watchNamespaces='{team-a,team-b}'
renders '"operator": "NotIn"' --set 'watchSelector.matchExpressions[0].key=a,watchSelector.matchExpressions[0].operator=NotIn,watchSelector.matchExpressions[0].values[0]=b'
render --set watchNamespaces='{team-a}' && [[ $(grep -A1 'kind: ClusterRoleBinding' "$out" | wc -l) -eq 2 ]] ||
  fail "with watchNamespaces the controller has rights in other namespaces"
for off in selfGuard.enabled=false secretGuard.enabled=false; do
  render --set "$off" && ! grep -q 'name: whittle-self-' "$out" || fail "$off leaves a policy"
done
renders 'whittle.dev/installation: zz' --set fullnameOverride=zz
renders 'policyName: whittle-probe-guard-elsewhere' --set probeGuard.mode=Deny
trust='probeGuard.trust[0].namespaceSelector.matchLabels.a=b,probeGuard.trust[0].repositories[0]=r.example.com/a'
renders 'resources: \[namespaces\]' --set "$trust"
renders '"r.example.com/a"' --set "$trust"
render --set crds.keep=false && ! grep -q resource-policy "$out" || fail "crds.keep=false keeps the CRDs"
render --set crds.install=false && ! grep -q CustomResourceDefinition "$out" || fail "crds.install=false installs the CRDs"
renders 'servicecidrs'
for less in builder.egress.enabled=false 'builder.egress.clusterCIDRs={10.96.0.0/16}'; do
  render --set "$less" && ! grep -q 'servicecidrs' "$out" || fail "$less: it may still look ranges up"
done
renders 'builder.egress.enabled' --set builder.egress=null
render --set networkPolicy.enabled=false && ! grep -q 'kind: NetworkPolicy' "$out" || fail "networkPolicy.enabled=false"
render && ! grep -q whittle.dev/build, "$out" || fail "Secrets need a label though nobody asked for it"
render --set builder.tenants.enabled=false && ! grep -q -- -builders "$out" || fail "builder.tenants.enabled=false"
render --set metadataBounds.enabled=false && ! grep -q 'name: whittle-metadata' "$out" || fail "metadataBounds.enabled=false"
render && ! grep -qE 'PodDisruptionBudget|topologySpread' "$out" || fail "one controller with a PodDisruptionBudget holds up a drain"
render && ! grep -q 'kind: ServiceMonitor' "$out" || fail "a ServiceMonitor that nobody asked for"

# What the schema refuses.
for wrong in foo=1 image.pullpolicy=Always image.pullPolicy=Sometimes image.digest=latest concurrency=0 replicas=0 \
  builder.defaults.cache.sise=1Gi builder.defaults.cache.size=5Mi builder.defaults.cache.minFree=95% 'builder.defaults.registries[0].hots=x' \
  callback.url=http://x runner.imagePullSecret=x selfGuard.enable=true watchNamespaces=a watchSelector.matchLabel.a=b \
  'selfGuard.extraImages[0]=a" b' 'selfGuard.extraLabels[0]=a" b' runner.scratchSize=much 'builder.tenants.nodeSelectors={a"b}' builder.tenants.names=x \
  builder.egress.enable=true 'builder.egress.clusterCIDRs={10.0.0.0}' 'builder.egress.allow={a}' \
  notifications.sinks.url=https://a notifications.sink.url=ftp://a notifications.sink.url=https://bob:secret@a; do
  if render --set "$wrong"; then fail "the schema lets $wrong pass"; fi
done

# What the values say is what is rendered, each of them; without any of them, as after `helm upgrade --reuse-values`, the chart is as
# with it; overlays of the kustomize base keep its guards.
(cd tests/chart && go test -count=1 ./...)

# The tests that the documentation of security names are there.
grep -o '`[a-z][a-z0-9]*_[a-z0-9_]*_[a-z0-9_]*`' docs/security.md | tr -d '`' | grep -v "^whittle_" | sort -u | while read -r name; do
  grep -rqE "fn $name\b" tests src || { echo "docs/security.md names the test $name, which is not there" >&2; exit 1; }
done

"$tools/kubectl" kustomize config/default >/dev/null
overlay=$(mktemp -d -p config)
trap 'rm -rf "$out" "$overlay"' EXIT
"$tools/kubectl" kustomize config/samples >/dev/null
# The component for Argo CD, over the ConfigMap that Argo CD's own installation has.
mkdir "$overlay/cm"
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm}\n' >"$overlay/cm/cm.yaml"
printf 'resources: [cm.yaml]\ncomponents: [../../argocd]\n' >"$overlay/cm/kustomization.yaml"
"$tools/kubectl" kustomize "$overlay/cm" | grep -q 'resource.customizations.health.whittle.dev_ImageBuild' || fail "config/argocd puts nothing into argocd-cm"
echo "chart, kustomize base and CRDs: fine"
