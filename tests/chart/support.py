"""Rendering the chart and finding things in what comes out."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "directory"
HELM = ROOT / ".tools" / "bin" / "helm"
SCHEMAS = Path(__file__).parent / "schemas"
BIN = ROOT / os.environ.get("DIR_BIN", "target/debug")

# Every way in which the chart is meant to be used; () is the bare defaults.
PRESETS = [(), ("local",), ("production",)]
KUBE_VERSIONS = ["1.31", "1.37"]

Manifest = dict


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *args], capture_output=True, text=True, check=False)


def render_args(presets=(), values: dict | None = None, release="dir", namespace="dir-prod", kube="1.37") -> list[str]:
    args = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", f"{kube}.0"]
    for preset in presets:
        args += ["--values", str(CHART / f"values-{preset}.yaml")]
    # JSON keeps what Python said: strings, numbers, nulls, absent keys.
    for key, value in (values or {}).items():
        args += ["--set-json", f"{key}={json.dumps(value)}"]
    return args


@functools.lru_cache(maxsize=None)
def _template(args: tuple[str, ...]) -> str:
    done = helm(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def template(*args, **kwargs) -> str:
    """The rendered text."""
    return _template(tuple(render_args(*args, **kwargs)))


def render(*args, **kwargs) -> list[Manifest]:
    """The rendered objects."""
    return [doc for doc in yaml.safe_load_all(template(*args, **kwargs)) if doc]


def refused(presets=(), values: dict | None = None, **kwargs) -> str:
    """The error text of a render that must fail."""
    done = helm(*render_args(presets, values, **kwargs))
    assert done.returncode != 0, f"rendered all the same: {values}"
    return done.stderr


def find(docs: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    found = [d for d in docs if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def all_of(docs: list[Manifest], kind: str) -> list[Manifest]:
    return [d for d in docs if d["kind"] == kind]


def pod_templates(docs: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by `Kind/name`."""
    found = {}
    for doc in docs:
        spec = doc.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", {}).get("template") or spec.get("template")
        if template:
            found[f"{doc['kind']}/{doc['metadata']['name']}"] = template
    return found


def containers(docs: list[Manifest]):
    for owner, pod in pod_templates(docs).items():
        for container in pod["spec"]["containers"]:
            yield owner, pod, container


def binary(name: str) -> Path:
    path = BIN / name
    assert path.exists(), f"{path} is missing: run `cargo build -p {name}`, or set DIR_BIN to the folder that holds it"
    return path
