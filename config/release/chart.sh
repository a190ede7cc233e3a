#!/usr/bin/env bash
# Packs the chart; where REGISTRY is set, pushes it to oci://REGISTRY/charts and writes its name by digest to chart.txt.
cd "$(dirname "$0")/../.."
. config/release/common.sh

helm=${HELM:-$(tool helm)}
read -r -a helm_flags <<<"${HELM_FLAGS:-}"
"$helm" lint --strict --quiet charts/whittle
"$helm" package charts/whittle --destination "$out" >/dev/null
package=$out/whittle-$version.tgz
[[ -s $package ]] || { echo "$package is missing: Chart.yaml has another version than Cargo.toml" >&2; exit 1; }
# What is packed renders, with the image of this version.
rendered=$("$helm" template whittle "$package" --namespace whittle-system)
grep -q "image: .*/whittle:$version\$" <<<"$rendered" ||
  { echo "the packed chart does not name the image of version $version" >&2; exit 1; }
echo "$package"
if [[ -n ${REGISTRY:-} ]]; then
  charts=$(registry)/charts
  digest=$("$helm" push "${helm_flags[@]}" "$package" "oci://$charts" 2>&1 | tee /dev/stderr | sed -n 's/^Digest: //p')
  [[ $digest == sha256:* ]] || { echo "helm push told no digest" >&2; exit 1; }
  echo "$charts/whittle@$digest" | tee "$out/chart.txt"
fi
