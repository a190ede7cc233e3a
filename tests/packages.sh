#!/usr/bin/env bash
# Installs what the machine lacks for building and testing: the only step of `make test` that installs anything.
# Debian packages come by apt-get; cargo-nextest, cargo-deny, typos, shellcheck and mdBook, pinned, into ~/.cache/whittle/tools;
# Rust's own by rustup, as rust-toolchain.toml says.
set -euo pipefail
cd "$(dirname "$0")/.."
more=()
command -v c++ >/dev/null || more+=(g++) # the engine of the fuzz targets
command -v ssh-keygen >/dev/null || more+=(openssh-client) # RSA keys in the tests of src/git
command -v chromium-headless-shell >/dev/null || more+=(chromium-headless-shell) # the page of an image, in a browser
python3 -c 'import ensurepip, venv' 2>/dev/null || more+=(python3-venv) # the pinned tools
(cd tests/cluster && go run . packages "${more[@]}")
cargo --version
echo "pinned tools: $(config/tools/install.sh)"
