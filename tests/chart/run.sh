#!/usr/bin/env bash
# Lints and renders charts/directory, deploy/argocd and deploy/docker, and judges what comes out. No cluster, no
# container engine. The rendered configuration goes to the real binaries: DIR_BIN names their folder
# (default target/debug). Arguments go to pytest: tests/chart/run.sh -k guards
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/install-helm.sh
scripts/install-chart-tools.sh
export PYTHONDONTWRITEBYTECODE=1
exec .tools/venv/bin/python -m pytest -q -p no:cacheprovider tests/chart "$@"
