#!/usr/bin/env bash
# Builds and starts a directory on this machine: mTLS with an embedded identity, records in ./data/store, index in
# ./data/index, the records of examples/records loaded. Stays in the foreground; Ctrl-C stops it.
#
#   scripts/run.sh            start and stay
#   scripts/run.sh --demo     start on free ports in a throw-away folder, show push, search, pull, delete, and stop
#
# DATA=dir, PORT=8888 and OPS_PORT=9090 change the defaults; CARGO_PROFILE=dev builds faster and runs slower.
. "$(dirname "$0")/lib.sh"

DEMO=0; [ "${1:-}" = --demo ] && DEMO=1
CARGO_PROFILE=${CARGO_PROFILE:-local}
PORT=${PORT:-8888} OPS_PORT=${OPS_PORT:-9090}

need cargo "install Rust 1.90 or newer (https://rustup.rs)"
need cc "install a C compiler (Debian: build-essential)"
cd "$ROOT"
say "building (the first time takes some minutes)"
cargo build --profile "$CARGO_PROFILE" --locked -p dir-apiserver -p dirctl
OUT=$ROOT/target/$([ "$CARGO_PROFILE" = dev ] && echo debug || echo "$CARGO_PROFILE")

if [ "$DEMO" = 1 ]; then
  DATA=$(mktemp -d /tmp/directory-demo.XXXXXX)
  PORT=$((20000 + RANDOM % 10000)) OPS_PORT=$((PORT + 1))
else
  DATA=${DATA:-$ROOT/data}
fi
mkdir -p "$DATA"

# As the image has it.
export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-2}
export DIRECTORY_LOGGER_LOG_FILE=$DATA/server.log
"$OUT/dir-apiserver" serve --embedded-identity --state-dir "$DATA" \
  --listen-address "127.0.0.1:$PORT" --metrics-address "127.0.0.1:$OPS_PORT" \
  --set "store.oci.local_dir=$DATA/store" --set "database.embedded.path=$DATA/index" \
  --set audit.output=file --set "audit.path=$DATA/audit.jsonl" &
SERVER=$!
stop() { trap - EXIT; kill "$SERVER" 2>/dev/null || true; wait "$SERVER" || true; [ "$DEMO" = 0 ] || rm -rf "$DATA"; }
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for _ in $(seq 600); do
  kill -0 "$SERVER" 2>/dev/null || { trap - EXIT; tail -n 20 "$DATA/server.log" >&2 || true; wait "$SERVER"; exit $?; }
  if (exec 3<>"/dev/tcp/127.0.0.1/$OPS_PORT" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 ') 2>/dev/null; then
    READY=1; break
  fi
  sleep 0.1
done
[ "${READY:-0}" = 1 ] || { tail -n 20 "$DATA/server.log" >&2; die "the server did not become ready within a minute"; }

export DIRECTORY_CLIENT_SERVER_ADDRESS=localhost:$PORT
export DIRECTORY_CLIENT_AUTH_MODE=x509
export DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH=unix://$DATA/workload.sock
DIRCTL=$OUT/dirctl

if [ "$DEMO" = 1 ]; then
  step() { say ""; say "\$ dirctl $*"; "$DIRCTL" "$@"; }
  step push examples/records
  step search --skill 'natural_language_processing/*'
  CID=$("$DIRCTL" search --name burger_seller_agent)
  step info "$CID"
  step pull "$CID"
  step delete --yes "$CID"
  step search --count
  say ""; say "that was the whole way: SVIDs, mTLS, records in an OCI layout, search. Start it with: make run"
  exit 0
fi

"$DIRCTL" push examples/records >&2
cat >&2 <<TEXT

Ready: gRPC over mTLS on localhost:$PORT, ops on http://127.0.0.1:$OPS_PORT. Ctrl-C stops it.
Its log: $DATA/server.log, who did what: $DATA/audit.jsonl. In another terminal:

  export DIRECTORY_CLIENT_SERVER_ADDRESS=localhost:$PORT DIRECTORY_CLIENT_AUTH_MODE=x509
  export DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH=unix://$DATA/workload.sock
  export PATH=$OUT:\$PATH

  dirctl search --skill 'natural_language_processing/*'
  dirctl info \$(dirctl search --name burger_seller_agent)
  dirctl pull \$(dirctl search --name burger_seller_agent)
  dirctl push my-record.json
  curl -s http://127.0.0.1:$OPS_PORT/healthz
  echo | openssl s_client -connect localhost:$PORT 2>/dev/null | openssl x509 -noout -subject

TEXT
wait "$SERVER"
