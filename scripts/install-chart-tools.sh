#!/usr/bin/env bash
# Python tools of tests/chart (strict Kubernetes schemas, pytest, hadolint), pinned, in .tools/venv.
# `--check` only says whether they are there as pinned.
. "$(dirname "$0")/lib.sh"

PINS=$ROOT/tests/chart/requirements.txt
VENV=$TOOLS/venv
STAMP=$VENV/.installed-from

there() { [ -x "$VENV/bin/python" ] && cmp -s "$PINS" "$STAMP"; }

if there; then exit 0; fi
[ "${1:-}" = --check ] && die "the Python tools of tests/chart are missing or outdated: run scripts/install-chart-tools.sh"
need python3 "install Python 3.11 or newer with venv (Debian: python3-venv)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 is older than 3.11"
say "installing the Python tools of tests/chart"
rm -rf "$VENV"
python3 -m venv "$VENV" || die "python3 has no venv module (Debian: python3-venv)"
"$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement "$PINS" || die "pip cannot install $PINS: is the registry reachable?"
cp "$PINS" "$STAMP"
there || die "the Python tools were installed and are still not usable"
