#!/usr/bin/env bash
# Builds the operator's image for this machine's architecture and pushes it as REGISTRY/whittle:VERSION-ARCH.
# index.sh joins those of all architectures.
cd "$(dirname "$0")/../.."
. config/release/common.sh

arch=$(architecture)
CRANE_FLAGS=${CRANE_FLAGS:-} config/image/build.sh "$(registry)/whittle:$version-$arch" | tee "$out/image-$arch.txt"
