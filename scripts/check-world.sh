#!/usr/bin/env bash
# Says what the world tests miss. These programs come from their projects' releases; nothing here installs them.
. "$(dirname "$0")/lib.sh"

missing=0
for program in spire-server spire-agent zot; do
  command -v "$program" >/dev/null || { say "missing on PATH: $program"; missing=1; }
done
[ "$missing" = 0 ] || die "install SPIRE (spire-server, spire-agent) and Zot from their projects' releases and put them on PATH"
"$ROOT/scripts/install-nginx.sh" --check
