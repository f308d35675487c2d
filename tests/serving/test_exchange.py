"""One request from its body to the end of its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException

from fastav_plugin.errors import ConfigError
from fastav_plugin.serving.account import Account
from fastav_plugin.serving.batching.loop import BusyError
from fastav_plugin.serving.exchange import (
    Exchange,
    LeftError,
    Outcome,
    Stream,
    current_exchange,
    exchanging,
    outcome_of,
)
from fastav_plugin.serving.media.policy import MediaError
from fastav_plugin.serving.request_body import check_kind
from fastav_plugin.upstream import server


class Counter:
    """Hears of the ends of requests."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.media: list[str] = []

    def ended(self, model: str, outcome: Outcome) -> None:
        """As of an OutcomeCounter."""
        self.ends.append((model, outcome))

    def refused_media(self, reason: str) -> None:
        """As of an OutcomeCounter."""
        self.media.append(reason)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answered"),
        (ConfigError("x"), "refused"),
        (BusyError("x"), "refused"),
        (HTTPException(422, "x"), "refused"),
        (HTTPException(503, "x"), "failed"),
        (RuntimeError("x"), "failed"),
        (LeftError(), "left"),
        (asyncio.CancelledError(), "left"),
    ],
)
def test_outcomes(error: BaseException | None, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_the_first_end_counts() -> None:
    counter = Counter()
    exchange = Exchange(counter)
    exchange.model = "a"
    exchange.end(MediaError("too large", reason="limit"))
    exchange.end(None)
    assert counter.ends == [("a", "refused")]
    assert counter.media == ["limit"]
    other = Exchange(counter)
    with pytest.raises(TypeError) as untaken:
        check_kind("audio", frozenset({"image"}), "AProcessor")
    other.end(untaken.value)
    assert counter.media == ["limit", "not_taken"]


def test_outside_of_any_nobody_looks() -> None:
    current_exchange().end(None)
    inner = Exchange()
    with exchanging(inner):
        assert current_exchange() is inner
    assert current_exchange() is not inner


ACCOUNT = Account.of(None, 1)


def begin(items: list[Any], known_after: int) -> tuple[list[Any], list[Any]]:
    """Items that a stream takes before it begins, and all of them in their order."""

    async def run() -> tuple[list[Any], list[Any]]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        exchange = Exchange()
        stream = Stream(queue, exchange)
        begun = asyncio.ensure_future(stream.begin())
        given = 0
        for number, item in enumerate(items):
            if number == known_after:
                exchange.account = ACCOUNT
            queue.put_nowait(item)
            for _ in range(3):
                await asyncio.sleep(0)
            given += 1
            if begun.done():
                break
        await begun
        for item in items[given:]:
            queue.put_nowait(item)
        rest = [await stream.get(), *(stream.get_nowait() for _ in items[1:])]
        return items[:given], rest

    return asyncio.run(run())


def test_a_stream_begins_with_its_first_token() -> None:
    """A parser of answers puts items there before the prompt is prefilled."""
    items = ["<think>", "first", "second", None]
    taken, every = begin(items, known_after=1)
    assert taken == ["<think>", "first"]
    assert every == items


def test_a_stream_that_ends_early_begins_then() -> None:
    assert begin([None], known_after=9)[0] == [None]
    error = server.stream_error("no beams")
    assert begin(["<think>", error, None], known_after=9)[0] == ["<think>", error]


def test_a_stream_that_is_refused() -> None:
    async def run() -> None:
        exchange = Exchange()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        exchange.watch(queue)
        exchange.refusal = ConfigError("no cache")
        queue.put_nowait(server.stream_error("no cache"))
        await exchange.streams[0].begin()

    with pytest.raises(ConfigError, match="no cache"):
        asyncio.run(run())
