#!/usr/bin/env bash
# Installs what `make test` needs, each by its own script, at pinned versions. `--check` installs nothing and
# says what is missing.
. "$(dirname "$0")/lib.sh"

need cargo "install Rust 1.90 or newer (https://rustup.rs)"
need cc "install a C compiler (Debian: build-essential)"
need go "install Go 1.24 or newer"
need npm "install Node.js 20 or newer with npm"
need python3 "install Python 3.10 or newer with venv"
for script in "$ROOT"/scripts/install-*.sh; do
  "$script" "$@"
done
