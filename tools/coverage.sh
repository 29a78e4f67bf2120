#!/usr/bin/env bash
# Which lines the unit tests run: of the pure core at least 95 %, of the rest as it is (the stories run that, in processes
# that they kill). Test code itself does not count.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.9.1
cache=${OAUTH_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oauth-operator}
tool=$cache/cargo-llvm-cov-$version
rustup component add llvm-tools >/dev/null 2>&1
if [ ! -x "$tool/bin/cargo-llvm-cov" ]; then
  echo "  installing cargo-llvm-cov $version (a minute, once) ..." >&2
  cargo install cargo-llvm-cov --version "$version" --locked --quiet --root "$tool" >&2
fi
mkdir -p target/coverage
PATH="$tool/bin:$PATH" cargo llvm-cov --locked --lib --lcov --output-path target/coverage/lcov.info
node tools/coverage.mjs target/coverage/lcov.info 95
