#!/usr/bin/env bash
# The page of `whittle inspect -o html` in a real browser, without a window: Debian's chromium-headless-shell, which `make packages`
# installs. Pictures of it are left in target/browser.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium-headless-shell >/dev/null; then
  echo "chromium-headless-shell not found: make packages installs Debian's package of that name" >&2
  exit 1
fi
cargo test --locked --lib -- --ignored --nocapture in_a_browser
