#!/usr/bin/env bash
# Prints what stands below the notes of a release: where image and chart are, by digest.
cd "$(dirname "$0")/../.."
. config/release/common.sh

image=$(cat "$out/image.txt") chart=$(cat "$out/chart.txt")
cat <<MD

### Where it is

| | |
|---|---|
| image, linux/amd64 and linux/arm64 | \`$image\` |
| chart | \`oci://${chart%@*}\` version $version, \`${chart#*@}\` |

[How to verify them](https://github.com/whittle-dev/whittle/blob/v$version/RELEASE.md#verify-a-release)
MD
