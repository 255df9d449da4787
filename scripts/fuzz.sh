#!/usr/bin/env bash
# Fuzzes every target of crates/dir-fuzz with libFuzzer, FUZZ_SECONDS (30) each; arguments name the targets to run.
# No nightly toolchain: coverage comes without a sanitizer, and memory safety from the language (no unsafe code).
# What is found lies in fuzz/artifacts; keep it as a file in fuzz/corpus/TARGET, where every test run tries it again.
. "$(dirname "$0")/lib.sh"

VERSION=0.13.2
need c++ "install a C++ compiler (Debian: g++)"
if ! "$BIN/cargo-fuzz" fuzz --version 2>/dev/null | grep -qw "$VERSION"; then
  cargo install cargo-fuzz --version "$VERSION" --locked --root "$TOOLS"
fi
cd "$ROOT"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
for target in "${targets[@]}"; do
  say "== $target"
  # New inputs go to the first folder; the committed corpus is only read.
  mkdir -p "fuzz/corpus-run/$target"
  "$BIN/cargo-fuzz" fuzz run --sanitizer none "$target" "fuzz/corpus-run/$target" "fuzz/corpus/$target" -- \
    -max_total_time="${FUZZ_SECONDS:-30}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
