#!/bin/bash
# Fuzzes what reads layers, ELF files, manifests, commands of probes and YAML: SECONDS_EACH for each target
# (default 60). Begins with tests/fuzz/corpus: the seeds, those of the first three written by
# src/image/seeds.rs, and what earlier runs found, one archive a target. What a run finds goes to
# tests/fuzz/found; FUZZ_MERGE=1 writes the archives anew, with what reaches code that nothing else in them
# reaches. With the argument "build" nothing is run.
#
# Runs on the pinned stable toolchain: the coverage marks are stable options of the compiler. Without a
# sanitizer, which would need a nightly one: the project has no unsafe code, so what is looked for is
# panics, overflows, endless loops and memory, and what is to hold of an answer.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${SECONDS_EACH:-60}
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# The engine is C++.
command -v c++ >/dev/null || { echo "c++ is missing: make packages, or apt-get install g++" >&2; exit 1; }
# Apart from the everyday programs: the marks are in every crate.
cargo build --locked --package whittle-fuzz --profile fuzz --target "$target" --target-dir target
[[ ${1-} != build ]] || exit 0
built=target/$target/fuzz
mkdir -p crashes
# As much as the operator's threads have.
ulimit -s 2048
for name in layer elf manifest shell edit; do
  mkdir -p "found/$name"
  if [ -f "corpus/$name.tar.gz" ]; then tar -C "found/$name" -xzf "corpus/$name.tar.gz"; fi
  echo "== $name: $seconds s"
  "$built/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="crashes/$name-" "found/$name" "corpus/$name" 2>&1 | grep -v '^#.*\(NEW\|REDUCE\|RELOAD\)' | tail -n 15
  if [ -n "${FUZZ_MERGE:-}" ]; then
    rm -rf merged && mkdir merged
    "$built/$name" -merge=1 -use_counters=0 -max_len=65536 merged "corpus/$name" "found/$name" 2>&1 | tail -n 1
    tar --sort=name --owner=0 --group=0 --mtime=@0 -C merged -cf - . | gzip -9n > "corpus/$name.tar.gz"
    rm -rf merged
  fi
done
