"""Scraping, alerts and the dashboard: off by default, and the files of deploy/observability when they are on."""

import json

import yaml
from support import PRESETS, ROOT, all_of, find, render

KINDS = {"ServiceMonitor", "PrometheusRule"}
OBSERVABILITY = ROOT / "deploy" / "observability"


def test_nothing_of_it_is_there_unless_asked_for():
    for preset in PRESETS:
        docs = render(preset)
        assert not [d for d in docs if d["kind"] in KINDS or d["metadata"]["name"].endswith("-dashboard")]


def test_the_monitor_finds_the_ops_port():
    docs = render(("production",), {"metrics.serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "p"}}})
    monitor = find(docs, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "p"
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "15s")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    ports = [
        (service["metadata"]["name"], port["targetPort"])
        for service in all_of(docs, "Service")
        if wanted <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
        if port["name"] == endpoint["port"]
    ]
    assert ports == [("dir-apiserver-ops", "ops")]


def test_the_rules_and_the_dashboard_are_the_files():
    docs = render(("production",), {"metrics.prometheusRule.enabled": True, "metrics.dashboard.enabled": True})
    rules = find(docs, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())
    [board] = [d for d in all_of(docs, "ConfigMap") if "directory.json" in d["data"]]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["directory.json"]) == json.loads((OBSERVABILITY / "dashboard.json").read_text())


def test_every_alert_has_its_runbook_section():
    rules = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) == len({alert["alert"] for alert in alerts}) >= 20
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        headings = [line[3:].strip().lower() for line in (ROOT / page).read_text().splitlines() if line.startswith("## ")]
        assert anchor == alert["alert"].lower() and anchor in headings, alert["alert"]
        assert alert["labels"]["severity"] in {"warning", "critical"}
