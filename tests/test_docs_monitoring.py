"""docs/monitoring.md, the dashboard and the alerts name the metrics that a node has, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvs.server.handlers.context import MODES
from tests.api.client import Client
from tests.api.running import RunningNode
from tests.markdown import rows, section, spans
from tests.scrape import Scrape
from tests.test_docs import DOCUMENTED_CODES, ROUTES

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "monitoring.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
ALERTS = yaml.safe_load((DOCS / "alerts.yml").read_text())
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus or a histogram adds."""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """Of a node in a cluster, with everything switched on, which has been asked something."""
    node = RunningNode(tmp_path_factory.mktemp("node"), clustering_enabled=True, cluster_secret="x" * 32)
    client = Client(node.address)
    client.put("/kv/a", b"1")
    client.get("/nowhere")
    yield Scrape(client.get("/metrics").body.decode())
    client.close()
    node.stop()


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name to (type, labels)."""
    found = {}
    for cells in rows(section(PAGE, "## Metrics")):
        (name,) = spans(cells[0])
        assert name not in found, name
        found[name] = (cells[1], set(spans(cells[2])))
    return found


def expressions() -> list[str]:
    """All that the dashboard and the alerts ask Prometheus."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    variables = [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return [*panels, *variables, *(rule["expr"] for rule in alert_rules())]


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kvs|process)_\w+", expression))


def selectors(expression: str) -> list[tuple[str, str, str]]:
    """(Metric, label, value) of every matcher."""
    return [
        (name, label, value)
        for name, matchers in re.findall(r"\b(\w+)\{((?:[^{}\"]|\"[^\"]*\")*)\}", expression)
        for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', matchers)
    ]


def test_every_metric_is_described_with_its_type_and_labels(scrape: Scrape) -> None:
    page = documented()
    assert {name: kind for name, (kind, _) in page.items()} == scrape.families
    for sample, labels in scrape.values:
        name = sample if sample in page else re.sub(r"_(bucket|sum|count)$", "", sample)
        assert {label for label, _ in labels} - {"le"} == page[name][1], name


def test_what_labels_can_be_is_told() -> None:
    text = section(PAGE, "## Metrics")
    assert [mode for mode in MODES if f"`{mode}`" not in text] == []
    for value in ("token", "password", "cluster_secret", "user", "address", "login", "held", "incoming", "success"):
        assert f"`{value}`" in text


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(scrape: Scrape) -> None:
    asked = {name for expression in expressions() for name in named(expression)}
    assert asked - scrape.names == set()
    assert len(asked) > 30


def test_every_metric_of_kvs_is_on_the_dashboard_or_alerts(scrape: Scrape) -> None:
    asked = {name for expression in expressions() for name in named(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {name for name in scrape.families if name.startswith("kvs_")} - families - asked == set()


def test_matchers_name_labels_and_values_that_there_are() -> None:
    page, codes = documented(), {code for code, _ in DOCUMENTED_CODES}
    templates = {route.template for route in ROUTES}
    text = section(PAGE, "## Metrics")
    found = [matcher for expression in expressions() for matcher in selectors(expression)]
    assert len(found) > 40
    for metric, label, value in found:
        name = re.sub(r"_(bucket|sum|count)$", "", metric)
        if label in OF_PROMETHEUS:
            continue
        assert label in page[name][1], (metric, label)
        for word in value.split("|"):
            assert _is_value(label, word, text, templates, codes), (metric, label, word)


def _is_value(label: str, word: str, text: str, templates: set[str], codes: set[str]) -> bool:
    if label == "route":
        return word in templates
    if label == "code":
        return word in codes
    if label == "method":
        return any(route.method == word for route in ROUTES)
    return f"`{word}`" in text or re.fullmatch(r"[1-5]\.\.", word) is not None


def test_every_alert_is_explained() -> None:
    table = {spans(cells[0])[0]: cells[1] for cells in rows(section(PAGE, "## Dashboard and alerts"))}
    assert table == {rule["alert"]: rule["labels"]["severity"] for rule in alert_rules()}
    for rule in alert_rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_dashboard_is_one() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)), "panels lie over each other"
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert target["expr"].count("(") == target["expr"].count(")")
            assert 'job="$job", instance=~"$instance"' in target["expr"]


def test_these_checks_can_fail() -> None:
    assert named('sum(rate(kvs_a_total{x="1"}[5m])) / up') == {"kvs_a_total"}
    assert selectors('rate(kvs_a{route="/kv/{key}", status!~"5..|4.."}[5m]) > up{job="kvs"}') == [
        ("kvs_a", "route", "/kv/{key}"),
        ("kvs_a", "status", "5..|4.."),
        ("up", "job", "kvs"),
    ]
