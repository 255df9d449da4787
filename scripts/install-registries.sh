#!/usr/bin/env bash
# The OCI registries that the store's tests run against, into .tools/bin at pinned versions:
#   registry       CNCF distribution, which has no referrers API
#   ggcr-registry  go-containerregistry's registry package, which has one (tests/interop/go/ggcr-registry)
# `--check` only says whether they are there.
. "$(dirname "$0")/lib.sh"

DISTRIBUTION=v3.0.0
GGCR=v0.20.6

# Whether program $1 was built from Go module $2 at version $3.
there() {
    [ -x "$BIN/$1" ] && go version -m "$BIN/$1" | awk -v m="$2" -v v="$3" '$2 == m && $3 == v { ok = 1 } END { exit !ok }'
}
distribution() { there registry github.com/distribution/distribution/v3 "$DISTRIBUTION"; }
ggcr() { there ggcr-registry github.com/google/go-containerregistry "$GGCR"; }

need go "install Go 1.24 or newer (https://go.dev/dl/, Debian: golang-go)"
if distribution && ggcr; then exit 0; fi
[ "${1:-}" = --check ] && die "registries for the tests are missing or of another version: run scripts/install-registries.sh"
if ! distribution; then
    say "installing CNCF distribution $DISTRIBUTION as $BIN/registry"
    GOBIN=$BIN go install "github.com/distribution/distribution/v3/cmd/registry@$DISTRIBUTION"
fi
if ! ggcr; then
    say "building $BIN/ggcr-registry on go-containerregistry $GGCR"
    (cd "$ROOT/tests/interop/go/ggcr-registry" && go build -mod=readonly -o "$BIN/ggcr-registry" .)
fi
distribution && ggcr || die "the registries were installed and are not of the wanted versions"
