"""deploy/argocd: strict schemas, and a project that allows what the chart renders and nothing else."""

import json

import jsonschema
import yaml
from support import CHART, ROOT, SCHEMAS, helm

ARGO = ROOT / "deploy" / "argocd"
CLUSTER_SCOPED = {"Namespace", "ClusterSPIFFEID"}


def load(path):
    return [doc for doc in yaml.safe_load_all(path.read_text()) if doc]


def manifests() -> list[dict]:
    return [doc for folder in ("projects", "apps") for path in sorted((ARGO / folder).glob("*.yaml")) for doc in load(path)]


def applications() -> list[dict]:
    return [d for d in manifests() if d["kind"] == "Application"]


def project(name: str) -> dict:
    [found] = [d for d in manifests() if d["kind"] == "AppProject" and d["metadata"]["name"] == name]
    return found["spec"]


def value_files(app: dict) -> list:
    """The files of an Application, resolved in this repository as Argo CD resolves them in its checkout."""
    [chart] = [s for s in app["spec"]["sources"] if "path" in s]
    refs = {s["ref"] for s in app["spec"]["sources"] if "ref" in s}
    files = []
    for name in chart["helm"]["valueFiles"]:
        if name.startswith("$"):
            ref, path = name[1:].split("/", 1)
            assert ref in refs, name
            files.append(ROOT / path)
        else:
            files.append(ROOT / chart["path"] / name)
    return files


def rendered(app: dict) -> list[dict]:
    [chart] = [s for s in app["spec"]["sources"] if "path" in s]
    args = ["template", chart["helm"]["releaseName"], str(ROOT / chart["path"]), "--namespace", app["spec"]["destination"]["namespace"]]
    for path in value_files(app):
        args += ["--values", str(path)]
    done = helm(*args)
    assert done.returncode == 0, done.stderr
    return [doc for doc in yaml.safe_load_all(done.stdout) if doc]


def test_schemas():
    kinds = set()
    for doc in manifests():
        jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{doc['kind']}.json").read_text())).validate(doc)
        kinds.add(doc["kind"])
    assert kinds == {"AppProject", "Application"}


def test_value_files_exist_and_are_not_excused():
    for app in applications():
        for path in value_files(app):
            assert path.is_file(), path
        for source in app["spec"]["sources"]:
            assert "ignoreMissingValueFiles" not in source.get("helm", {})


def test_nothing_follows_a_branch():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    for app in applications():
        assert {s["targetRevision"] for s in app["spec"]["sources"]} == {f"v{version}"}


def test_the_project_is_narrow():
    for app in applications():
        spec = project(app["spec"]["project"])
        assert {s["repoURL"] for s in app["spec"]["sources"]} == set(spec["sourceRepos"])
        for destination in spec["destinations"]:
            assert "*" not in destination["namespace"] and "*" not in destination["server"]
        for entry in spec["clusterResourceWhitelist"] + spec["namespaceResourceWhitelist"]:
            assert "*" not in entry["kind"] and "*" not in entry["group"]
        for role in spec["roles"]:
            for policy in role["policies"]:
                assert policy.startswith(f"p, proj:{app['spec']['project']}:{role['name']}, ")


def test_the_project_allows_what_the_chart_renders_and_nothing_else():
    for app in applications():
        spec = project(app["spec"]["project"])
        docs = rendered(app)
        kinds = {(d["apiVersion"].rpartition("/")[0], d["kind"]) for d in docs}
        allowed = lambda key: {(e["group"], e["kind"]) for e in spec[key]}  # noqa: E731
        assert allowed("clusterResourceWhitelist") == {k for k in kinds if k[1] in CLUSTER_SCOPED}
        assert allowed("namespaceResourceWhitelist") == {k for k in kinds if k[1] not in CLUSTER_SCOPED}
        used = {d["metadata"]["namespace"] for d in docs if "namespace" in d["metadata"]}
        assert {d["namespace"] for d in spec["destinations"]} == used
        assert app["spec"]["destination"]["namespace"] in used


def test_claims_are_never_pruned():
    for app in applications():
        claims = [d for d in rendered(app) if d["kind"] == "PersistentVolumeClaim"]
        assert claims
        for claim in claims:
            assert claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
