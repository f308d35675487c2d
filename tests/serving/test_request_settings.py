"""A request's own settings: what it may set, the answers it gets, and what its answer says."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError
from fastav_plugin.serving.account import HEADER, Account, describe
from fastav_plugin.serving.request_settings import (
    CONFIGS,
    DEFAULT_FIELDS,
    Served,
    allowed_fields,
    take_settings,
)
from tests.serving.conftest import OPTIONS, Server
from tests.serving.messages import SETTINGS, Parts, user
from tests.serving.test_server import PRUNING, SOUND, generate, local
from tests.support.small_models import qwen2

#: What requests set, and the method and fields that come of it on the server of OPTIONS.
ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the method that cuts nothing": {"method": "none"},
    "another method": {"method": "divprune"},
    "a ratio": {"visual_keep_ratio": 0.1},
    "all of them": {
        "method": "fastav+divprune",
        "visual_keep_ratio": 0.9,
        "audio_keep_ratio": None,
        "fine_drop_ratio": 0,
    },
}
#: What is refused, and a part of the reason.
REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ("none", "`fastav` must be an object"),
    "a list": ([{"method": "none"}], "`fastav` must be an object"),
    "another field": (
        {"min_media_tokens": 1},
        "`fastav` sets 'min_media_tokens'. Requests to this server may set: audio_keep_ratio, "
        "fine_drop_ratio, method, visual_keep_ratio.",
    ),
    "a slip": ({"methode": "none"}, "Did you mean 'method'?"),
    "code": ({"hooks": []}, "`fastav` sets 'hooks'"),
    "a file": ({"calibration": "/etc/passwd"}, "`fastav` sets 'calibration'"),
    "an unknown method": ({"method": "nope"}, "Unknown method 'nope'"),
    "no method": ({"method": None}, "`method` must be a name"),
    "a method of another type": ({"method": ["none"]}, "`method` must be a name"),
    "a ratio that is none": ({"visual_keep_ratio": 7}, "`visual_keep_ratio` must lie in (0, 1]"),
    "a ratio in words": ({"visual_keep_ratio": "0.5"}, "`visual_keep_ratio` must lie in (0, 1]"),
    "a truth": ({"visual_keep_ratio": True}, "`visual_keep_ratio` must lie in (0, 1]"),
    "no ratio": ({"visual_keep_ratio": None}, "`visual_keep_ratio` must lie in (0, 1]"),
}


@pytest.fixture(scope="module", params=[(), ("--max-batch", "1")], ids=["batches", "one by one"])
def either(request: pytest.FixtureRequest, serve: Callable[..., Server]) -> Iterator[Server]:
    """A server that answers together, and one that does not."""
    found = serve(options=(*OPTIONS, *request.param)).wait()
    yield found
    found.process.terminate()


def post(server: Server, path: str, **body: Any) -> httpx2.Response:
    given = {"generation_config": json.dumps({**SETTINGS, **body.pop("settings", {})})}
    whole = {"model": server.model, **given, **body}
    return httpx2.post(f"{server.url}/v1/{path}", json=whole, timeout=120)


def chat(server: Server, parts: Parts, **body: Any) -> httpx2.Response:
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    return post(server, "chat/completions", messages=messages, **body)


def alone(parts: Parts, asked: Mapping[str, Any], **settings: Any) -> tuple[str, Any]:
    """The answer of generate() with these settings over the server's own, and its report."""
    fields = {"method": "fastav+divprune", **PRUNING, **asked}
    cache = FastAVCache(FastAVConfig.for_model(local()[0], **fields))
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    return generate(messages, parts.folder, cache, **settings), cache.report()


def text_of(answer: httpx2.Response) -> str:
    """Of a chat's answer, whole or streamed."""
    if "application/json" in answer.headers["content-type"]:
        return str(answer.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_settings_differ() -> None:
    """Else the tests below would say little."""
    configs = [{"method": "fastav+divprune", **PRUNING, **asked} for asked in ASKED.values()]
    made = [FastAVConfig.for_model(local()[0], **fields) for fields in configs]
    assert len({repr(config) for config in made}) == len(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_that_of_its_settings(either: Server, parts: Parts, name: str) -> None:
    expected, report = alone(parts, ASKED[name])
    whole = chat(either, parts, fastav=ASKED[name])
    stream = chat(either, parts, fastav=ASKED[name], stream=True)
    assert (whole.status_code, stream.status_code) == (200, 200), whole.text
    assert text_of(whole) == text_of(stream) == expected
    found, usage = whole.json()["fastav"], whole.json()["usage"]
    assert found["prompt_tokens"] == usage["prompt_tokens"] == sum(report.prompt_tokens().values())
    assert found["kept_last_layer"] == report.tokens_per_layer[-1]
    assert found["flops_ratio"] == pytest.approx(report.flops_ratio)
    assert found["reason"] == report.reason
    assert whole.headers[HEADER] == found["report"]
    tokens_and_flops = str(report).split("; KV")[0]
    if "method" in ASKED[name] and ASKED[name]["method"] == "none":
        assert found["kept_last_layer"] == found["prompt_tokens"]
        assert found["flops_ratio"] == 1
        assert "unpruned, because" in stream.headers[HEADER] == found["report"]
        return
    assert found["report"] == str(report)
    assert (found["kv_bytes"], found["dense_kv_bytes"]) == (
        report.kv_bytes,
        report.dense_kv_bytes,
    )
    # A stream's header goes out when its first token is known, so it counts no later ones.
    assert stream.headers[HEADER].split("; KV")[0] == tokens_and_flops
    assert whole.json()["fastav"]["report"].isascii()


def test_null_is_nothing(either: Server, parts: Parts) -> None:
    assert text_of(chat(either, parts, fastav=None)) == alone(parts, {})[0]


def test_each_has_its_own_among_others(either: Server, parts: Parts) -> None:
    every = list(ASKED.values())
    expected = [alone(parts, asked)[0] for asked in every]

    def send(number: int) -> str:
        asked = every[number % len(every)]
        return text_of(chat(either, parts, fastav=asked, stream=number < len(every)))

    with ThreadPoolExecutor(2 * len(every)) as pool:
        assert list(pool.map(send, range(2 * len(every)))) == expected * 2


def test_they_hold_for_what_no_batch_does(either: Server, parts: Parts) -> None:
    for asked in (ASKED["the method that cuts nothing"], ASKED["a ratio"]):
        expected, report = alone(parts, asked, num_beams=2)
        found = chat(either, parts, fastav=asked, settings={"num_beams": 2})
        assert text_of(found) == expected
        assert found.json()["fastav"]["kept_last_layer"] == report.tokens_per_layer[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_every_route(either: Server, path: str, stream: bool) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "chat/completions": {"messages": [user(text=SOUND)]},
        "completions": {"prompt": "which colour"},
        "responses": {"input": "which colour"},
    }
    body = bodies[path]
    found = post(either, path, **body, stream=stream, fastav={"method": "divprune"})
    assert found.status_code == 200, found.text
    assert "unpruned, because the prompt holds no media" in found.headers[HEADER]
    if not stream:
        answer = found.json()
        assert answer["fastav"]["reason"] == "the prompt holds no media tokens"
        tokens = answer["usage"].get("prompt_tokens", answer["usage"].get("input_tokens"))
        assert answer["fastav"]["prompt_tokens"] == tokens
    bad = post(either, path, **body, stream=stream, fastav={"method": "nope"})
    assert bad.status_code == 400


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(either: Server, parts: Parts, name: str, stream: bool) -> None:
    asked, reason = REFUSED[name]
    found = chat(either, parts, fastav=asked, stream=stream)
    assert found.status_code == 400, found.text
    assert reason in found.json()["error"]["message"]
    assert HEADER not in found.headers


def test_an_operator_may_allow_other_fields_or_none(
    serve: Callable[..., Server], parts: Parts
) -> None:
    wide = serve(options=(*OPTIONS, "--request-settings", "global_rule"))
    none = serve(options=(*OPTIONS, "--request-settings", "none"))
    rule = {"global_rule": {"audio": "first 2 tokens"}}
    found = chat(wide.wait(), parts, fastav=rule)
    expected, report = alone(parts, rule)
    assert text_of(found) == expected
    assert found.json()["fastav"]["kept_last_layer"] == report.tokens_per_layer[-1]
    wrong = chat(wide, parts, fastav={"global_rule": 5})
    assert wrong.status_code == 400, wrong.text
    refused = chat(none.wait(), parts, fastav={"method": "none"})
    assert refused.status_code == 400
    assert refused.json()["detail"].endswith("Requests to this server may set: nothing.")
    assert chat(none, parts, fastav={}).status_code == 200


def test_fields_of_an_operator() -> None:
    assert allowed_fields(",".join(DEFAULT_FIELDS)) == DEFAULT_FIELDS
    assert allowed_fields(" none ") == frozenset()
    assert allowed_fields("method, positions") == {"method", "positions"}
    for text, reason in (
        ("methode", "Did you mean 'method'?"),
        ("method,", "Unknown setting ''"),
        ("hooks", "No request may set `hooks`"),
        ("method,calibration", "No request may set `calibration`"),
    ):
        with pytest.raises(ConfigError, match=reason.replace("?", r"\?")):
            allowed_fields(text)


def test_the_body_is_left_as_it_was() -> None:
    body = {"model": "a", "fastav": {"method": "none"}}
    rest, settings = take_settings(body, DEFAULT_FIELDS)
    assert (rest, settings) == ({"model": "a"}, {"method": "none"})
    assert "fastav" in body


def test_a_config_is_made_once_and_so_many_are_kept() -> None:
    made: list[float] = []

    def make(model: Any, visual_keep_ratio: float) -> FastAVConfig:
        made.append(visual_keep_ratio)
        return FastAVConfig(visual_keep_ratio=visual_keep_ratio)

    served = Served(FastAVConfig(), lambda report: None, make)
    model = qwen2()
    gone = weakref.ref(model)
    assert served.config_of(model, {}) is served.config
    first = served.config_of(model, {"visual_keep_ratio": 0.5})
    assert served.config_of(model, {"visual_keep_ratio": 0.5}) is first
    assert made == [0.5]
    ratios = [(number + 1) / (4 * CONFIGS) for number in range(CONFIGS)]
    for ratio in ratios:
        served.config_of(model, {"visual_keep_ratio": ratio})
    served.config_of(model, {"visual_keep_ratio": ratios[-1]})
    assert len(made) == CONFIGS + 1
    assert served.config_of(model, {"visual_keep_ratio": 0.5}) is not first
    del model
    assert gone() is None


@pytest.mark.parametrize("error", [TypeError("no number"), ValueError("no number")])
def test_whatever_a_value_breaks_is_a_refusal(error: Exception) -> None:
    def make(model: Any, **settings: Any) -> FastAVConfig:
        raise error

    served = Served(FastAVConfig(), lambda report: None, make)
    with pytest.raises(FastAVError, match="a value of a wrong type: no number"):
        served.config_of(None, {"method": "none"})


def test_an_account_without_a_report() -> None:
    account = Account.of(None, 7)
    assert (account.prompt_tokens, account.kept_last_layer, account.flops_ratio) == (7, 7, 1.0)
    assert account.kv_bytes is None and account.dense_kv_bytes is None
    assert account.report == describe(None)
    assert account.reason is not None and "'none'" in account.reason
