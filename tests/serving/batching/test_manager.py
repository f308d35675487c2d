"""The manager that transformers' server gives its requests to."""

from __future__ import annotations

import asyncio
from typing import Any

from fastav_plugin import attach, detach
from fastav_plugin.serving.batching.loop import BatchLimits
from fastav_plugin.serving.batching.manager import manager_class
from fastav_plugin.serving.exchange import Exchange, exchanging
from fastav_plugin.serving.request_settings import Served
from tests.serving.batching.test_equality import alone, config, settings
from tests.support.families import FAMILIES


class Words:
    """A processor that writes tokens as numbers."""

    def decode(self, tokens: Any, skip_special_tokens: bool) -> str:
        """As of a processor."""
        return " ".join(str(int(token)) for token in tokens)


def test_a_whole_answer_that_nobody_waits_for_ends() -> None:
    """And the loop goes on to answer others."""
    family = FAMILIES["omni_image"]
    model, cut = family.model(), config(family, "divprune")
    inputs = family.batch(family.single())
    reports: list[Any] = []
    manager = manager_class()(BatchLimits(), lambda model: Served(cut, reports.append))
    endless = settings()
    endless.max_new_tokens = 100_000

    async def run() -> tuple[Any, Exchange]:
        task = asyncio.ensure_future(
            manager.generate_non_streaming(model, Words(), inputs, endless, "1")
        )
        while not manager.loop.running:
            await asyncio.sleep(0.01)
        task.cancel()
        exchange = Exchange()
        with exchanging(exchange):
            answer = await asyncio.wait_for(
                manager.generate_non_streaming(model, Words(), inputs, settings(), "2"), 60
            )
        while manager.loop.running:
            await asyncio.sleep(0.01)
        return answer, exchange

    attach(model, cut)
    try:
        expected = alone(model, inputs, cut, settings())
        (text, length, tokens), exchange = asyncio.run(asyncio.wait_for(run(), 120))
    finally:
        manager.stop()
        detach(model)
    assert tokens.tolist() == expected.tolist()
    assert text == Words().decode(expected, True)
    assert length == inputs["input_ids"].shape[1]
    assert len(reports) == 2
    assert exchange.account is not None
    assert exchange.account.kept_last_layer == reports[1].tokens_per_layer[-1]
