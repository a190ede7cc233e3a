#!/usr/bin/env bash
# What a change must pass without running: all of it as errors. Needs no cluster, and no network but for crates that are
# missing, and for advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$(config/tools/install.sh):$PATH"
step() { printf '· %s\n' "$*"; "$@"; }

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
# No test of the others: the benchmark of many ImageBuilds is built when it is asked for.
step cargo clippy --locked --test scale --test watch --quiet -- -D warnings
RUSTDOCFLAGS='-D warnings' step cargo doc --locked --workspace --no-deps --document-private-items --quiet

# Licences, sources, what must not be linked: of the lock file alone. Advisories are a database on github.com.
# For deny, which looks at all platforms: a build downloads the crates of this one alone.
step cargo fetch --locked --quiet
step cargo deny --log-level error --offline check bans licenses sources
if [[ -n ${ADVISORIES:-} ]]; then
  step cargo deny --log-level error check advisories
else
  echo "· cargo deny check advisories: not run, it fetches a database from github.com; with ADVISORIES=1 it is"
fi

for folder in tests/cluster tests/bench/inspect tests/yaml tests/argocd tests/docs tests/chart; do
  echo "· gofmt and go vet in $folder"
  (cd "$folder" && gofmt -l . | (! grep .) && go vet ./...)
done

mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
if command -v shellcheck >/dev/null; then
  step shellcheck --severity warning --external-sources "${scripts[@]}"
else
  echo "· shellcheck: not run, it is missing: apt-get install shellcheck"
fi
if [[ -f _typos.toml ]]; then step typos; fi
if [[ -x config/check-links.sh ]]; then step config/check-links.sh; fi
step config/site/build.sh
step tests/site.sh
step config/check.sh
