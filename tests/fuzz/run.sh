#!/bin/bash
# Fuzzes the readers of layers, ELF files and manifests: SECONDS_EACH for each target (default 60).
# Begins with tests/fuzz/corpus; what is found to be new goes to tests/fuzz/found. FUZZ_MERGE=1 takes into
# the corpus what reaches code that the corpus does not.
#
# Runs on the pinned stable toolchain: the coverage marks are stable options of the compiler. Without a
# sanitizer, which would need a nightly one: the project has no unsafe code, so what is looked for is
# panics, overflows, endless loops and memory.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${SECONDS_EACH:-60}
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --locked --release --target "$target"
built=${CARGO_TARGET_DIR:-target}/$target/release
mkdir -p found crashes
for name in layer elf manifest; do
  mkdir -p "found/$name" "corpus/$name"
  echo "== $name: $seconds s"
  "$built/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="crashes/$name-" "found/$name" "corpus/$name" 2>&1 | grep -v '^#.*\(NEW\|REDUCE\|RELOAD\)' | tail -n 15
  if [ -n "${FUZZ_MERGE:-}" ]; then
    "$built/$name" -merge=1 -max_len=65536 "corpus/$name" "found/$name" 2>&1 | tail -n 1
  fi
done
