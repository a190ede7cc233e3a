#!/usr/bin/env bash
# Writes SHA256SUMS of the files that a release offers for download.
cd "$(dirname "$0")/../.."
. config/release/common.sh

cd "$out"
files=(whittle-"$version"*)
[[ -e ${files[0]} ]] || { echo "no file of version $version in $out" >&2; exit 1; }
for arch in amd64 arm64; do
  [[ -s whittle-$version-linux-$arch.tar.gz || -n ${PARTIAL:-} ]] ||
    { echo "whittle-$version-linux-$arch.tar.gz is missing: run make release-binaries on $arch (or set PARTIAL=1)" >&2; exit 1; }
done
sha256sum "${files[@]}" >SHA256SUMS
cat SHA256SUMS
