# Sourced by the scripts of this folder, from the top of the checkout.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

# What a release consists of is gathered here.
out=${RELEASE_FILES:-target/release-files}
mkdir -p "$out"

# The version in Cargo.toml; the others are held to it by check.sh.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# A tool of the pinned ones, which are built once and kept outside the checkout.
tool() { echo "$(cd tests/cluster && go run . build "$1")/$1"; }

# The architecture of this machine, as images name it.
architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) echo "no release for $(uname -m)" >&2; return 1 ;;
  esac
}

# Where images and charts go, without which nothing is pushed: ghcr.io/owner.
registry() { echo "${REGISTRY:?set REGISTRY to where images and charts are pushed, for example ghcr.io/owner}"; }

read -r -a crane_flags <<<"${CRANE_FLAGS:-}"
