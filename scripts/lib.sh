# Shared by the scripts in this folder: where tools go, and how to say what is missing.
# shellcheck shell=bash
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
BIN=$TOOLS/bin
mkdir -p "$BIN"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# need PROGRAM HOW-TO-GET-IT
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || die "$1 is missing: $2"; }
