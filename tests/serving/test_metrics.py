"""What a server counts, over HTTP and of a loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.serving.batching.loop import BatchLimits, BatchLoop
from fastav_plugin.serving.metrics import ServerMetrics
from tests.serving.batching.test_equality import ask, config, settings
from tests.serving.conftest import OPTIONS, Server
from tests.serving.messages import SETTINGS, Parts, picture_url, user
from tests.serving.test_server import PRUNING, SOUND, generate, local
from tests.support.families import FAMILIES

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

NAMES = {
    "fastav_prompt_tokens_seen": "counter",
    "fastav_prompt_tokens_kept": "counter",
    "fastav_requests": "counter",
    "fastav_unpruned_requests": "counter",
    "fastav_refused_media": "counter",
    "fastav_flops_ratio": "histogram",
    "fastav_kv_bytes": "gauge",
    "fastav_running_requests": "gauge",
    "fastav_waiting_requests": "gauge",
    "fastav_prefill_seconds": "histogram",
    "fastav_decode_step_seconds": "histogram",
}


def parse(page: str) -> Samples:
    """Every sample by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


class Scraped:
    """The metrics of one model of a server, as Prometheus would read them now."""

    def __init__(self, server: Server) -> None:
        answer = httpx2.get(f"{server.url}/metrics", timeout=60)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        self._samples, self._model = parse(answer.text), server.model
        self.types = {
            family.name: family.type for family in text_string_to_metric_families(answer.text)
        }

    def __call__(self, name: str, **labels: str) -> float:
        """A sample; nothing counted is 0."""
        labels = {"model": self._model, **labels}
        labels = {key: value for key, value in labels.items() if value != "-"}
        return self._samples.get((f"fastav_{name}", tuple(sorted(labels.items()))), 0)


def wait_for(server: Server, seen: Callable[[Scraped], bool]) -> Scraped:
    """Scrape until something is seen."""
    deadline = time.monotonic() + 60
    while True:
        scraped = Scraped(server)
        if seen(scraped):
            return scraped
        assert time.monotonic() < deadline, vars(scraped)
        time.sleep(0.02)


def send(server: Server, messages: list[Any], **body: Any) -> httpx2.Response:
    given = {"generation_config": json.dumps({**SETTINGS, **body.pop("settings", {})})}
    whole = {"model": server.model, "messages": messages, **given, **body}
    return httpx2.post(f"{server.url}/v1/chat/completions", json=whole, timeout=120)


@pytest.mark.parametrize("batches", [True, False])
def test_a_server_counts_what_was_asked(
    serve: Callable[..., Server], parts: Parts, batches: bool
) -> None:
    server = serve(options=(*OPTIONS, *(() if batches else ("--max-batch", "1")))).wait()
    media = [user(parts.picture, parts.sound, text=SOUND)]
    words = [user(text=SOUND)]
    cache = FastAVCache(FastAVConfig.for_model(local()[0], "fastav+divprune", **PRUNING))
    generate(media, parts.folder, cache)
    report: Any = cache.report()

    assert send(server, media).status_code == 200
    assert send(server, media, stream=True).status_code == 200
    scraped = wait_for(server, lambda found: found("requests_total", outcome="answered") == 2)
    kinds = {name: kind for name, kind in scraped.types.items() if not name.endswith("_created")}
    assert kinds == NAMES
    for modality, count in report.prompt_tokens().items():
        kept = report.modality_per_layer[modality][-1]
        assert scraped("prompt_tokens_seen_total", modality=modality) == 2 * count
        assert scraped("prompt_tokens_kept_total", modality=modality) == 2 * kept
    assert scraped("flops_ratio_count") == 2
    assert scraped("flops_ratio_sum") == pytest.approx(2 * report.flops_ratio)
    assert scraped("prefill_seconds_count") == (2 if batches else 0)
    steps = scraped("decode_step_seconds_count")
    assert steps >= 2 if batches else steps == 0
    assert scraped("unpruned_requests_total", reason="no_media") == 0

    assert send(server, words).status_code == 200
    assert send(server, media, fastav={"method": "none"}).status_code == 200
    assert send(server, media, fastav={"method": "nope"}).status_code == 400
    for place in ("/etc/passwd", "data:image/png;base64,AAAA"):
        assert send(server, [user(picture_url(place), text=SOUND)]).status_code == 400
    assert send(server, media, temprature=1).status_code == 422
    beams = send(server, media, settings={"num_beams": 2}, stream=True)
    assert '{"error": ' in beams.text, "transformers streams no beams"
    scraped = wait_for(server, lambda found: found("requests_total", outcome="failed") == 1)
    assert scraped("requests_total", outcome="answered") == 4
    # No model was loaded for the one of an unknown field.
    assert scraped("requests_total", outcome="refused") == 3
    assert scraped("requests_total", outcome="refused", model="") == 1
    assert scraped("refused_media_total", model="-", reason="not_allowed") == 1
    assert scraped("refused_media_total", model="-", reason="unreadable") == 1
    assert scraped("unpruned_requests_total", reason="no_media") == 1
    assert scraped("unpruned_requests_total", reason="no_hooks") == 1

    long = json.dumps({**SETTINGS, "max_new_tokens": 3000, "min_new_tokens": 3000})
    body = {"model": server.model, "messages": media, "stream": True, "generation_config": long}
    url = f"{server.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=60) as answer:
        assert answer.headers["x-fastav-report"].startswith("13 text, ")
        lines = (line for line in answer.iter_lines() if '"content":"' in line)
        assert next(lines)
        scraped = wait_for(server, lambda found: found("running_requests") == 1)
        # What batches hold; a cache that generate() fills alone is not counted.
        assert (scraped("kv_bytes") >= report.kv_bytes) == batches
    scraped = wait_for(server, lambda found: found("requests_total", outcome="left") == 1)
    scraped = wait_for(server, lambda found: found("running_requests") == 0)
    assert scraped("kv_bytes") == scraped("waiting_requests") == 0
    assert scraped("requests_total", outcome="answered") == 4


def test_a_loop_counts_its_work() -> None:
    family = FAMILIES["omni_all"]
    model, cut = family.model(), config(family, "fastav+divprune")
    inputs = family.batch(family.single())
    metrics = ServerMetrics()
    loop = BatchLoop(BatchLimits(max_batch=2), metrics.of("tiny"))
    attach(model, cut)
    try:
        given = {"config": cut, "generation_config": settings()}
        found = ask(loop, model, [inputs] * 3, **given)
        loop.submit(lambda: None).result(60)  # the turn of the last answer is over
        loop.submit(lambda: None).result(60)
    finally:
        loop.stop()
        detach(model)
    assert not found.errors
    samples = parse(metrics.page()[0].decode())

    def of(name: str, **labels: str) -> float:
        return samples[f"fastav_{name}", tuple(sorted({"model": "tiny", **labels}.items()))]

    report = found.reports[0]
    for modality, count in report.prompt_tokens().items():
        assert of("prompt_tokens_seen_total", modality=modality) == 3 * count
    assert (
        sum(
            value
            for (name, _), value in samples.items()
            if name == "fastav_prompt_tokens_kept_total"
        )
        == 3 * report.tokens_per_layer[-1]
    )
    assert of("prefill_seconds_count") == of("flops_ratio_count") == 3
    assert of("decode_step_seconds_count") >= 8
    assert of("running_requests") == of("waiting_requests") == of("kv_bytes") == 0


def test_servers_count_apart() -> None:
    one, other = ServerMetrics(), ServerMetrics()
    one.ended("a", "answered")
    assert b'outcome="answered"' in one.page()[0]
    assert b'outcome="answered"' not in other.page()[0]


def test_what_runs_alone_is_added() -> None:
    metrics = ServerMetrics()
    model = metrics.of("a")
    assert metrics.of("a") is model
    model.waits(3)
    model.holds(2, 10)
    model.alone(waiting=1)
    model.alone(waiting=-1, running=1)
    samples = parse(metrics.page()[0].decode())
    labels = (("model", "a"),)
    assert samples["fastav_running_requests", labels] == 3
    assert samples["fastav_waiting_requests", labels] == 3
    assert samples["fastav_kv_bytes", labels] == 10


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_labels_without_numbers(reason: Reason) -> None:
    assert Reason.of_sentence(reason.sentence(4711)) is reason
