#!/usr/bin/env bash
# The public Python SDK in a virtual environment of its own, with stubs generated from our protos.
# `--check` only says whether it is there and fresh.
. "$(dirname "$0")/lib.sh"

SDK=1.8.1
HOME_DIR=$TOOLS/python-sdk
REQUIREMENTS=$ROOT/tests/interop/python-sdk/requirements.txt
STAMP=$HOME_DIR/stamp
want() { { echo "agntcy-dir==$SDK"; cat "$REQUIREMENTS"; find "$ROOT/proto" -name '*.proto' -print0 | sort -z | xargs -0 cat; } | sha256sum; }

if [ -e "$STAMP" ] && [ "$(cat "$STAMP")" = "$(want)" ]; then exit 0; fi
[ "${1:-}" = --check ] && die "the Python SDK is missing or stale: run scripts/install-python-sdk.sh"
need python3 "install Python 3.10 or newer"
say "installing the public Python SDK $SDK"
rm -rf "$HOME_DIR"
python3 -m venv "$HOME_DIR/venv" || die "python3 has no venv module: install the package python3-venv"
"$HOME_DIR/venv/bin/pip" install -q --disable-pip-version-check -r "$REQUIREMENTS"
# The SDK pins stub packages that PyPI does not have; they are generated here instead.
"$HOME_DIR/venv/bin/pip" install -q --disable-pip-version-check --no-deps "agntcy-dir==$SDK"
mkdir -p "$HOME_DIR/stubs"
cd "$ROOT/proto"
find agntcy buf google -name '*.proto' -print0 | xargs -0 "$HOME_DIR/venv/bin/python" -m grpc_tools.protoc \
  -I. --python_out="$HOME_DIR/stubs" --grpc_python_out="$HOME_DIR/stubs"
# google/* comes with the protobuf package, except google/api.
want > "$STAMP"
