#!/usr/bin/env bash
# Joins the images that image.sh has pushed, by the digests that it wrote down, into REGISTRY/whittle:VERSION, and
# writes that image's name by digest to image.txt.
cd "$(dirname "$0")/../.."
. config/release/common.sh

crane=${CRANE:-$(tool crane)}
image=$(registry)/whittle
parts=()
for arch in amd64 arm64; do
  file=$out/image-$arch.txt
  [[ -s $file ]] || { echo "$file is missing: run make release-image on $arch first" >&2; exit 1; }
  digest=$(sed 's/.*@//' "$file")
  parts+=(--manifest "$image@$digest")
done
"$crane" index append "${crane_flags[@]}" --docker-empty-base=false "${parts[@]}" --tag "$image:$version" >/dev/null
digest=$("$crane" digest "${crane_flags[@]}" "$image:$version")
platforms=$("$crane" manifest "${crane_flags[@]}" "$image@$digest" |
  jq -r '[.manifests[].platform | "\(.os)/\(.architecture)"] | sort | join(" ")')
[[ $platforms == "linux/amd64 linux/arm64" ]] ||
  { echo "$image@$digest is for '$platforms', not for linux/amd64 and linux/arm64" >&2; exit 1; }
echo "$image@$digest" | tee "$out/image.txt"
