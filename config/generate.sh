#!/usr/bin/env bash
# Writes what is derived: crds/*.yaml from the program, the chart's copies of them, what else of the chart
# comes from the program, its README and the copy of its values, the kustomize base from the chart, its components from the base, and Argo CD's ConfigMap from its scripts. With --check it changes nothing and fails where a file is out of date.
#
# HELM: helm (default: the pinned one). WHITTLE: the program that writes the CRDs (default: cargo run).
set -euo pipefail
cd "$(dirname "$0")/.."

helm=${HELM:-$(cd tests/cluster && go run . build helm)/helm}
read -r -a whittle <<<"${WHITTLE:-cargo run --quiet --locked --}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$out/crds" "$out/charts" "$out/config/default"

"${whittle[@]}" crds --directory "$out/crds"

cp -R charts/whittle "$out/charts/whittle"
rm -rf "$out/charts/whittle/files/crds"
cp -R "$out/crds" "$out/charts/whittle/files/crds"
{
  printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n'
  for file in "$out"/crds/whittle.dev_*.yaml; do echo "  - ${file##*/}"; done
} >"$out/kustomization.yaml"
"${whittle[@]}" chart "$out/charts/whittle"
(cd tests/chart && go run . readme "$out/charts/whittle")

{
  echo '# Rendered from charts/whittle by `make generate`. Edit the chart.'
  "$helm" template whittle "$out/charts/whittle" --namespace whittle-system --set crds.install=false --skip-tests |
    sed -e '/^# Source: /d' -e '/helm\.sh\/chart:/d' -e 's|app.kubernetes.io/managed-by: Helm|app.kubernetes.io/managed-by: kustomize|'
} >"$out/rendered.yaml"
# By these a unit test sees in milliseconds whether this is still so: src/cli/crds_tests.rs.
chart=$(cd "$out/charts/whittle" && find . -type f ! -path './files/crds/*' -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum)
rest=$(sha256sum <"$out/rendered.yaml")
{
  head -n 1 "$out/rendered.yaml"
  echo "# sha256 of the chart: ${chart%% *}"
  echo "# sha256 of the rest: ${rest%% *}"
  tail -n +2 "$out/rendered.yaml"
} >"$out/config/default/whittle.yaml"

(cd tests/chart && go run . components "$out/config/default/whittle.yaml" "$out/components")

(cd tests/argocd && go run . generate) >"$out/argocd-cm.yaml"

pairs=(
  "crds:crds"
  "charts/whittle/files/crds:crds"
)
stale=0
for pair in "${pairs[@]}"; do
  to=${pair%%:*} from=$out/${pair##*:}
  if [[ ${1:-} == --check ]]; then
    diff -ru --exclude kustomization.yaml "$to" "$from" || stale=1
  else
    mkdir -p "$to"
    find "$to" -name 'whittle.dev_*.yaml' -delete
    cp "$from"/*.yaml "$to/"
  fi
done
# Beside the CRDs.
chart=(
  charts/whittle/values.schema.json
  charts/whittle/files/probeguard/own.yaml
  charts/whittle/files/probeguard/elsewhere.yaml
  charts/whittle/files/defaults.yaml
  charts/whittle/README.md
)
for file in "${chart[@]}"; do
  if [[ ${1:-} == --check ]]; then
    diff -u "$file" "$out/$file" || stale=1
  else
    cp "$out/$file" "$file"
  fi
done
if [[ ${1:-} == --check ]]; then
  diff -u crds/kustomization.yaml "$out/kustomization.yaml" || stale=1
  diff -u config/default/whittle.yaml "$out/config/default/whittle.yaml" || stale=1
  diff -u config/argocd/argocd-cm.yaml "$out/argocd-cm.yaml" || stale=1
  diff -ru config/components "$out/components" || stale=1
  if ((stale)); then
    echo "generated files are out of date: run make generate" >&2
    exit 1
  fi
else
  cp "$out/kustomization.yaml" crds/kustomization.yaml
  cp "$out/config/default/whittle.yaml" config/default/whittle.yaml
  cp "$out/argocd-cm.yaml" config/argocd/argocd-cm.yaml
  cp -R "$out/components/." config/components/
fi
