#!/usr/bin/env bash
# Builds the server and the load driver optimised and prints the benchmark report. Arguments go to the driver:
# scripts/bench.sh --quick, scripts/bench.sh --million; docs/operations/benchmarks.md says what is in it.
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
cargo build --profile quick --locked -p dir-apiserver -p dir-bench
exec target/quick/dir-bench report "$@"
