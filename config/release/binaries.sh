#!/usr/bin/env bash
# Packs the static program for this machine's architecture. The same program gives the same archive.
# WHITTLE=path packs one that is there already.
cd "$(dirname "$0")/../.."
. config/release/common.sh

arch=$(architecture)
name=whittle-$version-linux-$arch
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
program=${WHITTLE:-$(config/image/program.sh)}
# One that needs a loader would not run everywhere.
if readelf --program-headers --wide "$program" | grep -q INTERP; then
  echo "$program is linked dynamically: build it with config/image/program.sh" >&2
  exit 1
fi
install -D -m 0755 "$program" "$stage/$name/whittle"
install -m 0644 LICENSE README.md "$stage/$name/"
tar --create --directory "$stage" --sort=name --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner "$name" |
  gzip --no-name --best >"$out/$name.tar.gz"
echo "$out/$name.tar.gz"
