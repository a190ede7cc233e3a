#!/usr/bin/env bash
# Signs without a key, by the identity of the workflow that runs this (cosign, Sigstore's public instance):
#   sign.sh image     the image by digest, and the bill of materials attested to it
#   sign.sh chart     the chart by digest
#   sign.sh files     SHA256SUMS, and with it every file that it names
# COSIGN=path takes a cosign that is there already; else it is built from its module, which Go's checksum database verifies.
cd "$(dirname "$0")/../.."
. config/release/common.sh

# renovate: datasource=go depName=github.com/sigstore/cosign/v3
cosign_version=v3.1.3
cosign() {
  if [[ -n ${COSIGN:-} ]]; then "$COSIGN" "$@"; else go run "github.com/sigstore/cosign/v3/cmd/cosign@$cosign_version" "$@"; fi
}

case ${1:-} in
  image)
    image=$(cat "$out/image.txt")
    cosign sign --yes --recursive "$image"
    cosign attest --yes --type spdxjson --predicate "$out/whittle-$version.spdx.json" "$image"
    ;;
  chart) cosign sign --yes "$(cat "$out/chart.txt")" ;;
  files) cosign sign-blob --yes --bundle "$out/SHA256SUMS.sigstore.json" "$out/SHA256SUMS" ;;
  *) echo "usage: config/release/sign.sh image|chart|files" >&2; exit 1 ;;
esac
