#!/usr/bin/env bash
# Fuzzes, guided by coverage: libFuzzer, with the pinned toolchain. What it finds to be new is kept in target/fuzz/corpus, what fails in
# target/fuzz/artifacts; fuzz/corpus has what each target begins with.
#
#   tools/fuzz.sh [target ...]   all of fuzz/targets, or these
#
# FUZZ_SECONDS   for each target (default: 60)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/targets/*.rs)

# What `cargo fuzz` would say to a compiler that need not be a nightly one.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS="--cfg fuzzing $(echo $coverage)" cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" --target-dir target/fuzz

printf '%-16s %12s %10s %10s %8s\n' target executions per-second edges inputs
failed=0
for target in "${targets[@]}"; do
  found=target/fuzz/corpus/$target
  log=target/fuzz/$target.log
  mkdir -p "$found" "target/fuzz/artifacts/$target" "fuzz/corpus/$target"
  status=0
  "target/fuzz/$host/release/$target" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="target/fuzz/artifacts/$target/" -print_final_stats=1 >"$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)
  printf '%-16s %12s %10s %10s %8s\n' "$target" "${executions:-?}" "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" "${edges:-?}" "$(find "$found" -type f | wc -l)"
  if [ "$status" -ne 0 ]; then
    echo "$target failed: the input is in target/fuzz/artifacts/$target, what was said in $log" >&2
    failed=1
  fi
done
exit "$failed"
