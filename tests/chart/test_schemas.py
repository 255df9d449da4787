"""Lint, strict schemas for two Kubernetes versions, determinism, two releases beside each other."""

import json

import jsonschema
import kubernetes_validate
import pytest
from support import CHART, KUBE_VERSIONS, PRESETS, SCHEMAS, helm, render, refused, template

CUSTOM = {
    json.loads(path.read_text())["properties"]["apiVersion"]["const"] + "/" + path.stem: json.loads(path.read_text())
    for path in SCHEMAS.glob("*.json")
    if path.stem != "zot-config"
}


def check(doc: dict, kube: str) -> None:
    """Strict: an unknown field is an error, and so is a kind without a schema."""
    custom = CUSTOM.get(f"{doc['apiVersion']}/{doc['kind']}")
    if custom:
        jsonschema.Draft202012Validator(custom).validate(doc)
    else:
        kubernetes_validate.validate(doc, kube, strict=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_lint(preset):
    files = [arg for name in preset for arg in ("--values", str(CHART / f"values-{name}.yaml"))]
    done = helm("lint", "--strict", str(CHART), *files)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kube", KUBE_VERSIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_object_is_valid(preset, kube):
    docs = render(preset, kube=kube)
    assert len(docs) >= 10
    for doc in docs:
        check(doc, kube)


def test_everything_switched_on_is_valid():
    docs = render(("production",), {"spire.ttl": "1h", "service.type": "NodePort", "service.nodePort": 30888,
                                    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                                                                  "whenUnsatisfiable": "ScheduleAnyway"}],
                                    "tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"},
                                    "global.imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high",
                                    "commonLabels": {"team": "dir"}, "podAnnotations": {"a": "b"},
                                    "metrics.serviceMonitor.enabled": True, "metrics.prometheusRule.enabled": True,
                                    "metrics.dashboard.enabled": True})
    for doc in docs:
        check(doc, "1.37")


def test_the_check_itself_can_fail():
    for doc in (
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}},
        {"apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID", "metadata": {"name": "a"},
         "spec": {"spiffeIDTemplate": "spiffe://a/b", "podselector": {}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            check(doc, "1.37")
    with pytest.raises(kubernetes_validate.utils.SchemaNotFoundError):
        check({"apiVersion": "example.org/v1", "kind": "Unknown", "metadata": {"name": "a"}}, "1.37")


def test_kubernetes_before_1_31_is_refused():
    assert ">=1.31" in refused(kube="1.30")


@pytest.mark.parametrize("preset", PRESETS)
def test_two_renders_are_byte_equal(preset):
    template.__globals__["_template"].cache_clear()
    first = template(preset)
    template.__globals__["_template"].cache_clear()
    assert first == template(preset)


def test_two_releases_share_no_object():
    def names(**kwargs):
        return {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
                for d in render(("production",), {"admin.namespace": f"admin-{kwargs['namespace']}"}, **kwargs)}

    base = names(release="dir", namespace="one")
    assert not base & names(release="dir", namespace="two")
    assert not base & names(release="other", namespace="two")


def test_zot_configuration_follows_its_schema():
    schema = json.loads((SCHEMAS / "zot-config.json").read_text())
    for preset in PRESETS:
        maps = [d for d in render(preset) if d["kind"] == "ConfigMap" and "config.json" in d["data"]]
        assert len(maps) == 1
        config = json.loads(maps[0]["data"]["config.json"])
        jsonschema.Draft202012Validator(schema).validate(config)
        assert config["storage"]["dedupe"] is False
        assert config["storage"]["rootDirectory"] == "/var/lib/registry"
        assert config["storage"]["retention"]["policies"][0]["deleteReferrers"] is True
