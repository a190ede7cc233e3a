#!/usr/bin/env bash
# Writes what is derived: crds/*.yaml from the program, the chart's copies of them, what else of the chart
# comes from the program, and the kustomize base from the chart. With --check it changes nothing and fails where a file is out of date.
#
# HELM: helm (default: the pinned one). WHITTLE: the program that prints the CRDs (default: cargo run).
set -euo pipefail
cd "$(dirname "$0")/.."

helm=${HELM:-$(cd tests/cluster && go run . build helm)/helm}
read -r -a whittle <<<"${WHITTLE:-cargo run --quiet --locked --}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$out/crds" "$out/charts" "$out/config/default"

# One file a CRD, named group_plural.yaml.
"${whittle[@]}" crds >"$out/all.yaml"
awk -v dir="$out/crds" '
  function flush(   parts) {
    if (name == "") return
    split(name, parts, "."); file = dir "/whittle.dev_" parts[1] ".yaml"
    printf "%s", text > file; close(file)
  }
  /^---$/ { flush(); text = ""; name = ""; next }
  name == "" && /^  name: .*\.whittle\.dev$/ { name = $2 }
  text == "" && /^$/ { next }
  { text = text $0 "\n" }
  END { flush() }
' "$out/all.yaml"
rm "$out/all.yaml"
for file in "$out"/crds/*.yaml; do sed -i -e :a -e '/^\n*$/{$d;N;ba' -e '}' "$file"; done

cp -R charts/whittle "$out/charts/whittle"
rm -rf "$out/charts/whittle/files/crds"
cp -R "$out/crds" "$out/charts/whittle/files/crds"
"${whittle[@]}" chart "$out/charts/whittle"

{
  echo '# Rendered from charts/whittle by `make generate`. Edit the chart.'
  "$helm" template whittle "$out/charts/whittle" --namespace whittle-system --set crds.install=false |
    sed -e '/^# Source: /d' -e '/helm\.sh\/chart:/d' -e 's|app.kubernetes.io/managed-by: Helm|app.kubernetes.io/managed-by: kustomize|'
} >"$out/config/default/whittle.yaml"

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
)
for file in "${chart[@]}"; do
  if [[ ${1:-} == --check ]]; then
    diff -u "$file" "$out/$file" || stale=1
  else
    cp "$out/$file" "$file"
  fi
done
if [[ ${1:-} == --check ]]; then
  diff -u config/default/whittle.yaml "$out/config/default/whittle.yaml" || stale=1
  if ((stale)); then
    echo "generated files are out of date: run make generate" >&2
    exit 1
  fi
else
  cp "$out/config/default/whittle.yaml" config/default/whittle.yaml
fi
