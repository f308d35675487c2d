"""What reads the metrics: the dashboard, the autoscalers, Prometheus and its adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.manifests import SERVE, TGI, container, load, of_kind, written

#: Metrics of `fastav serve` and their labels.
LABELS = {
    "fastav_prompt_tokens_seen_total": {"model", "modality"},
    "fastav_prompt_tokens_kept_total": {"model", "modality"},
    "fastav_requests_total": {"model", "outcome"},
    "fastav_unpruned_requests_total": {"model", "reason"},
    "fastav_refused_media_total": {"reason"},
    "fastav_flops_ratio": {"model"},
    "fastav_kv_bytes": {"model"},
    "fastav_running_requests": {"model"},
    "fastav_waiting_requests": {"model"},
    "fastav_prefill_seconds": {"model"},
    "fastav_decode_step_seconds": {"model"},
}
HISTOGRAMS = ("fastav_flops_ratio", "fastav_prefill_seconds", "fastav_decode_step_seconds")
#: Series that Prometheus stores, and their labels.
SERIES = {
    series: labels | extra
    for name, labels in LABELS.items()
    for series, extra in (
        [(f"{name}_bucket", {"le"}), (f"{name}_sum", set()), (f"{name}_count", set())]
        if name in HISTOGRAMS
        else [(name, set())]
    )
}
DASHBOARD = json.loads((SERVE / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
JOB = load(SERVE / "prometheus.yaml")["scrape_configs"][0]
#: Labels that the job gives to all series of a pod.
OF_THE_POD = {rule["target_label"] for rule in JOB["relabel_configs"] if "target_label" in rule}


def plain(query: str) -> str:
    """A query with the variables of the dashboard filled in."""
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for name in re.findall(r"\$(\w+)", query):
        assert name in names | {"__rate_interval"}, name
    return re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "5m"))


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Series of a query and the labels that they are chosen by."""
    for name, matchers in re.findall(r"\b(fastav_\w+)(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)=", matchers))


def test_the_server_has_these_metrics() -> None:
    module: Any = pytest.importorskip("fastav_plugin.serving.metrics")
    pytest.importorskip("prometheus_client")
    metrics = module.ServerMetrics()
    found = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    assert found == set(LABELS)
    for metric in vars(metrics).values():
        (family,) = metric.collect() if hasattr(metric, "describe") else [None]
        if family is not None:
            name = family.name + ("_total" if family.type == "counter" else "")
            assert (family.type == "histogram") == (name in HISTOGRAMS)
            # Raises ValueError where they are called otherwise.
            metric.labels(**dict.fromkeys(LABELS[name], "x"))


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in QUERIES for name, _ in selectors(query)}
    assert shown <= set(SERIES)
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set(LABELS)


@pytest.mark.parametrize("query", QUERIES)
def test_labels_of_a_query(query: str) -> None:
    found = list(selectors(query))
    assert found
    for name, labels in found:
        assert labels <= SERIES[name] | OF_THE_POD, name
        # The dashboard's choices hold for every panel.
        assert labels >= {"track"} | ({"model"} & SERIES[name]), name
    grouped = re.findall(r"by \(([^)]*)\)", query)
    assert len(grouped) == len(found)
    for (name, _), by in zip(found, grouped, strict=True):
        assert set(by.split(", ")) <= SERIES[name] | OF_THE_POD, name


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_promql(query: str) -> None:
    parser: Any = pytest.importorskip("promql_parser")
    parser.parse(plain(query))


@pytest.mark.parametrize("query", QUERIES)
def test_a_counter_is_read_as_a_rate(query: str) -> None:
    for name, _ in selectors(query):
        counted = name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert (f"rate({name}" in query) == counted
    assert ("_bucket" in query) == ("histogram_quantile" in query)


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD, "Grafana gives it"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        legends = [target["legendFormat"] for target in panel["targets"]]
        for legend, target in zip(legends, panel["targets"], strict=True):
            by = re.findall(r"by \(([^)]*)\)", target["expr"])[0].split(", ")
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) == set(by) - {"le"}
    for variable in DASHBOARD["templating"]["list"][1:]:
        (name, label) = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
        assert label in SERIES[name] | OF_THE_POD


def test_prometheus_finds_the_pods() -> None:
    keep = {
        rule["source_labels"][0]: rule["regex"]
        for rule in JOB["relabel_configs"]
        if rule.get("action") == "keep"
    }
    for folder in (SERVE / "kubernetes" / "server", TGI / "kubernetes"):
        deployment = of_kind(written(folder), "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        name = "__meta_kubernetes_pod_label_app_kubernetes_io_name"
        assert re.fullmatch(keep[name], labels["app.kubernetes.io/name"])
        port = keep["__meta_kubernetes_pod_container_port_name"]
        assert [found["name"] for found in container(deployment)["ports"]] == [port]
        assert "track" in labels
    assert {"namespace", "pod", "track"} == OF_THE_POD


def test_the_adapter_answers_the_autoscalers() -> None:
    (rule,) = load(SERVE / "prometheus_adapter.yaml")["rules"]["custom"]
    (series,) = re.findall(r'__name__=~"([^"]*)"', rule["seriesQuery"])
    assert set(rule["resources"]["overrides"]) <= OF_THE_POD
    asked = {
        metric["pods"]["metric"]["name"]
        for folder in (SERVE / "kubernetes" / "base", TGI / "kubernetes")
        for metric in of_kind(written(folder), "HorizontalPodAutoscaler")["spec"]["metrics"]
    }
    assert all(re.fullmatch(series, name) for name in asked)
    assert {name for name in asked if name.startswith("fastav")} <= set(LABELS)
    assert asked == {"fastav_waiting_requests", "fastav_running_requests", "tgi_queue_size"}


def test_the_page_names_the_metrics_files() -> None:
    page = (SERVE / "README.md").read_text()
    for file in SERVE.glob("*.*"):
        if file.suffix in (".json", ".yaml") and file.name != "compose.yaml":
            assert f"`{file.name}`" in page
