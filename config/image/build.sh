#!/usr/bin/env bash
# Builds the operator's image as an OCI layout, without a container daemon, and pushes it where a name
# is given: config/image/build.sh [registry/repository:tag]
#
# The same sources give the same digest. What it needs, each replaceable by the environment:
#   WHITTLE    the static program          BUILDCTL   BuildKit's client, static
#   CRANE      pushes the layout           CA_BUNDLE  the certificate authorities
#   CRANE_FLAGS  for example --insecure    OUT        where the layout goes
#   PROFILE      dev: a program that is built without optimization
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${1:-}
out=${OUT:-target/image}
ca_bundle=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
read -r -a crane_flags <<<"${CRANE_FLAGS:-}"
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
  x86_64-*) arch=amd64 ;;
  aarch64-*) arch=arm64 ;;
  *) echo "no image for $host" >&2; exit 1 ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
mkdir -p "$out"

# A tool of the pinned ones, which are built once and kept outside the checkout.
tool() { echo "$(cd tests/cluster && go run . build "$1")/$1"; }

whittle=${WHITTLE:-$(config/image/program.sh)}
buildctl=${BUILDCTL:-$(tool buildctl)}

# ── The layout ───────────────────────────────────────────────────────────────────────────────────

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
layout=$stage/layout
mkdir -p "$layout/blobs/sha256"
sum() { sha256sum "$1" | cut -d ' ' -f 1; }
bytes() { stat -c %s "$1"; }
blob() { # file: moves it under its digest, which it prints
  local digest
  digest=$(sum "$1")
  mv "$1" "$layout/blobs/sha256/$digest"
  echo "$digest"
}

diff_ids=() layers=()
layer() { # name, root: one compressed tar, the same bytes each time
  local tar=$stage/$1.tar diff digest
  tar --create --file "$tar" --directory "$2" --sort=name --format=ustar --mtime=@0 --owner=0 --group=0 \
    --numeric-owner .
  diff=$(sum "$tar")
  # What has not changed is not compressed again.
  mkdir -p "$out/layers"
  if [[ ! -f $out/layers/$diff.gz ]]; then
    gzip --no-name --best --stdout "$tar" >"$out/layers/$diff.gz.$$.part"
    mv "$out/layers/$diff.gz.$$.part" "$out/layers/$diff.gz"
  fi
  cp "$out/layers/$diff.gz" "$tar.gz"
  size=$(bytes "$tar.gz")
  digest=$(blob "$tar.gz")
  diff_ids+=("\"sha256:$diff\"")
  layers+=("{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$size}")
  keep+=("$diff.gz")
}
keep=()

base=$stage/base
install -D -m 0755 "$buildctl" "$base/usr/bin/buildctl"
install -D -m 0644 "$ca_bundle" "$base/etc/ssl/certs/ca-certificates.crt"
install -d -m 1777 "$base/tmp"
layer base "$base"
# The layer that changes, last.
install -D -m 0755 "$whittle" "$stage/program/usr/bin/whittle"
layer program "$stage/program"
for old in "$out"/layers/*.gz; do
  case " ${keep[*]} " in *" ${old##*/} "*) ;; *) rm "$old" ;; esac
done

join() { local IFS=,; echo "$*"; }
cat >"$stage/config" <<JSON
{"architecture":"$arch","os":"linux","config":{"User":"65532:65532","Env":["PATH=/usr/bin","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],"Entrypoint":["/usr/bin/whittle"],"WorkingDir":"/","Labels":{"org.opencontainers.image.title":"whittle","org.opencontainers.image.description":"A Kubernetes operator that turns an ImageBuild into the smallest image that still runs","org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.version":"$version","org.opencontainers.image.revision":"$revision"}},"rootfs":{"type":"layers","diff_ids":[$(join "${diff_ids[@]}")]}}
JSON
config_size=$(bytes "$stage/config")
config=$(blob "$stage/config")
cat >"$stage/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[$(join "${layers[@]}")]}
JSON
manifest_size=$(bytes "$stage/manifest")
manifest=$(blob "$stage/manifest")
cat >"$layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"platform":{"architecture":"$arch","os":"linux"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
rm -rf "$out/layout"
mv "$layout" "$out/layout"

if [[ -n $image ]]; then
  crane=${CRANE:-$(tool crane)}
  if ! "$crane" push "${crane_flags[@]}" "$out/layout" "$image" >"$stage/push.log" 2>&1; then
    cat "$stage/push.log" >&2
    exit 1
  fi
  echo "$image@sha256:$manifest"
else
  echo "$out/layout sha256:$manifest"
fi
