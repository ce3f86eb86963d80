"""Dashboard and alerts ask for metrics that there are, and the dashboard for all of them."""

import json
import re

import yaml

from lazyfs.telemetry.metrics import METRICS
from scripts.deployment import CHART, DASHBOARD, rendered
from tests.deploy.objects import named

SUFFIXES = ("_bucket", "_sum", "_count")
SERIES = {metric.name for metric in METRICS if metric.kind != "histogram"} | {
    metric.name + suffix for metric in METRICS if metric.kind == "histogram" for suffix in SUFFIXES
}
LABELS = {metric.label for metric in METRICS} - {""}
OF_PROMETHEUS = {"node", "pod", "le", "source", "volume"}
"""Labels that scraping gives: the PodMonitor makes `node`, the mounter the last two."""
RULES = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"][0]["rules"]


def queries():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def names(text):
    return set(re.findall(r"\blazyfs_\w+", text))


def test_the_dashboard_asks_for_every_metric_and_for_no_other():
    asked = set().union(*map(names, queries()))

    assert set() == asked - SERIES
    assert {metric.name for metric in METRICS} == {re.sub(r"_bucket$", "", name) for name in asked}


def test_the_alerts_ask_for_metrics_that_there_are():
    for rule in RULES:
        assert names(rule["expr"]), rule["alert"]
        assert set() == names(rule["expr"]) - SERIES, rule["alert"]


def test_what_is_summed_by_are_labels_that_there_are():
    for query in [*queries(), *(rule["expr"] for rule in RULES)]:
        by = {label for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in found.split(", ")}
        assert set() == by - LABELS - OF_PROMETHEUS, query
        assert query.count("(") == query.count(")"), query


def test_a_panel_covers_no_other():
    panels = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    places = [
        (x, y)
        for at in panels
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(places) == len(set(places))


def test_prometheus_asks_the_port_that_the_mounter_serves():
    found = [
        one
        for file in rendered({"metrics": {"podMonitor": {"enabled": True}, "port": 9555}}).values()
        for one in file
    ]
    monitor = named(found, "PodMonitor", "lazyfs-mounter")["spec"]
    pod = named(found, "DaemonSet", "lazyfs-mounter")["spec"]["template"]
    (container,) = pod["spec"]["containers"]

    assert [{"name": monitor["podMetricsEndpoints"][0]["port"], "containerPort": 9555}] == container["ports"]
    assert "--http=:9555" in container["args"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_alerts_and_the_dashboard_of_the_chart_are_its_files():
    switched = {"metrics": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}}
    found = [one for file in rendered(switched).values() for one in file]

    assert RULES == named(found, "PrometheusRule", "lazyfs")["spec"]["groups"][0]["rules"]
    dashboard = named(found, "ConfigMap", "lazyfs-dashboard")
    assert "1" == dashboard["metadata"]["labels"]["grafana_dashboard"]
    assert DASHBOARD.read_text() == dashboard["data"]["lazyfs.json"]
