"""Requests that are decoded together get what each gets alone from generate()."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.serving.batching import admission
from fastav_plugin.serving.batching.admission import TooLargeError, planned_bytes
from fastav_plugin.serving.batching.batch import Batch
from fastav_plugin.serving.batching.loop import BatchLimits, BatchLoop, BusyError
from fastav_plugin.serving.batching.request import Request, is_batched
from tests.support.cache_names import passing
from tests.support.families import FAMILIES, Family, build
from tests.support.prompts import PAD

NEW = 8
METHODS = ("none", "divprune", "fastav", "fastav+divprune")
#: Of the methods a list that has every family, and of the families one that has every method.
WIDE = [(name, "fastav+divprune") for name in FAMILIES if not FAMILIES[name].given_map]
DEEP = [("omni_all", method) for method in METHODS]


def config(family: Family, method: str) -> FastAVConfig:
    """Settings that cut something of the family's first prompt."""
    return FastAVConfig(
        method=method,
        global_rule=family.rule,
        min_media_tokens=1,
        fine_drop_ratio=0.2,
        visual_keep_ratio=0.5,
        audio_keep_ratio=0.5,
    )


class Answers:
    """What a loop said of some requests, by their number."""

    def __init__(self, count: int) -> None:
        self.tokens: dict[int, Tensor] = {}
        self.errors: dict[int, Exception] = {}
        self.reports: list[Any] = []
        self._left = threading.Semaphore(0)
        self._count = count

    def on_end(self, number: int, tokens: Tensor | None, error: Exception | None) -> None:
        """As of a Request."""
        if error is not None:
            self.errors[number] = error
        elif tokens is not None:
            self.tokens[number] = tokens
        self._left.release()

    def wait(self) -> None:
        """Until every request has ended."""
        for _ in range(self._count):
            assert self._left.acquire(timeout=120)


@pytest.fixture
def loop() -> Iterator[BatchLoop]:
    made = BatchLoop(BatchLimits(max_batch=8, prefill_per_step=2))
    yield made
    made.stop()


def settings(**given: Any) -> Any:
    make: Any = GenerationConfig
    return make(max_new_tokens=NEW, pad_token_id=PAD, do_sample=False, **given)


def ask(loop: BatchLoop, model: Any, prompts: list[dict[str, Any]], **given: Any) -> Answers:
    """Let a loop answer prompts; `given` are lists with a value for each, or one for all."""
    answers = Answers(len(prompts))
    for number, inputs in enumerate(prompts):
        own: dict[str, Any] = {
            "tokenizer": None,
            "streamer": None,
            "on_report": answers.reports.append,
            "on_end": lambda tokens, error, number=number: answers.on_end(number, tokens, error),
        }
        own |= {
            name: value[number] if isinstance(value, list) else value
            for name, value in given.items()
        }
        loop.ask(model, Request(inputs=inputs, **own))
    answers.wait()
    return answers


def request_of(inputs: dict[str, Any], cut: FastAVConfig, how: Any) -> Request:
    return Request(
        inputs=inputs,
        generation_config=how,
        tokenizer=None,
        config=cut,
        streamer=None,
        on_report=lambda report: None,
        on_end=lambda tokens, error: None,
    )


def alone(model: Any, inputs: dict[str, Any], cut: FastAVConfig, how: Any) -> Any:
    found = model.generate(**inputs, generation_config=how, **passing(FastAVCache(cut)))
    return found[0, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize(("name", "method"), [*WIDE, *DEEP])
def test_greedy_requests(name: str, method: str, loop: BatchLoop) -> None:
    family = FAMILIES[name]
    model, cut = family.model(), config(family, method)
    prompts = [family.batch([row]) for row in (*family.rows(), family.rows()[0])]
    attach(model, cut)
    try:
        expected = [alone(model, inputs, cut, settings()) for inputs in prompts]
        found = ask(loop, model, prompts, config=cut, generation_config=settings())
    finally:
        detach(model)
    assert not found.errors
    for number, tokens in enumerate(expected):
        assert torch.equal(found.tokens[number], tokens), number
    cuts = [len(set(report.tokens_per_layer)) > 1 for report in found.reports]
    assert any(cuts) is ("fastav" in method)


def test_each_request_has_its_own_settings(loop: BatchLoop) -> None:
    family = FAMILIES["omni_all"]
    model, cut = family.model(), config(family, "fastav+divprune")
    inputs = family.batch(family.single())
    hows = [
        settings(),
        settings(repetition_penalty=1.7),
        settings(min_new_tokens=4),
        settings(no_repeat_ngram_size=1),
        settings(bad_words_ids=[[int(token)] for token in range(20, 60)]),
    ]
    first = alone(model, inputs, cut, settings())
    hows.append(settings(eos_token_id=int(first[2])))
    hows[-1].max_new_tokens = 5
    attach(model, cut)
    try:
        expected = [alone(model, inputs, cut, how) for how in hows]
        found = ask(loop, model, [inputs] * len(hows), config=cut, generation_config=hows)
    finally:
        detach(model)
    assert not found.errors
    assert len({tuple(tokens.tolist()) for tokens in expected}) >= 4
    for number, tokens in enumerate(expected):
        assert torch.equal(found.tokens[number], tokens), number


def test_a_seed_gives_the_same_tokens_alone_and_in_a_batch(loop: BatchLoop) -> None:
    family = FAMILIES["omni_all"]
    model, cut = family.model(), config(family, "fastav+divprune")
    inputs = family.batch(family.single())
    how = settings(top_p=0.95, temperature=1.5, top_k=40)
    how.do_sample = True
    seeds = [3, 4, 3, 5]
    attach(model, cut)
    try:
        given = {"config": cut, "generation_config": how}
        each = [ask(loop, model, [inputs], seed=seed, **given).tokens[0] for seed in seeds]
        found = ask(loop, model, [inputs] * 4, seed=seeds, **given)
    finally:
        detach(model)
    assert not found.errors
    assert [found.tokens[number].tolist() for number in range(4)] == [t.tolist() for t in each]
    assert torch.equal(each[0], each[2])
    assert not torch.equal(each[0], each[1])


def test_requests_of_several_configs(loop: BatchLoop) -> None:
    family = FAMILIES["omni_all"]
    model = family.model()
    cuts = [config(family, method) for method in METHODS]
    inputs = family.batch(family.single())
    attach(model, cuts[0])
    try:
        expected = [alone(model, inputs, cut, settings()) for cut in cuts]
        found = ask(loop, model, [inputs] * 4, config=cuts, generation_config=settings())
    finally:
        detach(model)
    assert not found.errors
    for number, tokens in enumerate(expected):
        assert torch.equal(found.tokens[number], tokens), number


def test_one_that_fails_fails_alone(loop: BatchLoop) -> None:
    family = FAMILIES["omni_all"]
    model, cut = family.model(), config(family, "divprune")
    inputs = family.batch(family.single())
    broken = inputs | {"input_ids": torch.cat([inputs["input_ids"]] * 2, dim=1)}
    attach(model, cut)
    try:
        expected = alone(model, inputs, cut, settings())
        prompts = [inputs, broken, inputs]
        found = ask(loop, model, prompts, config=cut, generation_config=settings())
    finally:
        detach(model)
    assert set(found.errors) == {1}
    assert torch.equal(found.tokens[0], expected)
    assert torch.equal(found.tokens[2], expected)


def test_a_step_that_fails_ends_what_is_in_it_alone(loop: BatchLoop) -> None:
    family = FAMILIES["omni_image"]
    model, cut = build("omni_image"), config(family, "divprune")
    inputs = family.batch(family.single())
    failed: list[int] = []

    def fail_once(module: Any, args: Any, kwargs: Any) -> None:
        rows, length = kwargs["input_ids"].shape
        if length == 1 and rows == 3 and not failed:
            failed.append(rows)
            raise RuntimeError("out of luck")

    attach(model, cut)
    given = {"config": cut, "generation_config": settings()}
    try:
        expected = alone(model, inputs, cut, settings())
        handle = model.register_forward_pre_hook(fail_once, with_kwargs=True)
        found = ask(loop, model, [inputs] * 3, **given)
        assert failed == [3]
        assert {str(error) for error in found.errors.values()} == {"out of luck"}
        assert len(found.errors) == 3
        later = ask(loop, model, [inputs] * 3, **given)
        handle.remove()
    finally:
        detach(model)
    assert not later.errors
    assert all(torch.equal(tokens, expected) for tokens in later.tokens.values())


class Leaving:
    """A streamer whose client leaves after some tokens."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.seen: list[int] = []

    def put(self, tokens: Tensor) -> None:
        """As of a streamer; the prompt comes first."""
        if len(self.seen) > self.after:
            raise InterruptedError
        self.seen.append(int(tokens.flatten()[-1]))

    def end(self) -> None:
        """As of a streamer."""


def test_a_client_that_leaves_takes_its_row_along(loop: BatchLoop) -> None:
    family = FAMILIES["omni_all"]
    model, cut = family.model(), config(family, "fastav+divprune")
    inputs = family.batch(family.single())
    streamers = [Leaving(100), Leaving(2), Leaving(0)]
    attach(model, cut)
    try:
        expected = alone(model, inputs, cut, settings())
        given = {"config": cut, "generation_config": settings(), "streamer": streamers}
        found = ask(loop, model, [inputs] * 3, **given)
    finally:
        detach(model)
    assert {number: type(error) for number, error in found.errors.items()} == {
        1: InterruptedError,
        2: InterruptedError,
    }
    assert torch.equal(found.tokens[0], expected)
    assert streamers[0].seen[1:] == expected.tolist()
    assert streamers[1].seen[1:] == expected[:2].tolist()


class Holding(Leaving):
    """A streamer that holds its request up until it is let go."""

    def __init__(self) -> None:
        super().__init__(100)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def put(self, tokens: Tensor) -> None:
        """As of a streamer."""
        super().put(tokens)
        self.begun.set()
        assert self.go_on.wait(120)


def test_no_more_wait_than_may() -> None:
    family = FAMILIES["omni_image"]
    model, cut = family.model(), config(family, "divprune")
    held, answers = Holding(), Answers(2)
    loop = BatchLoop(BatchLimits(max_batch=1, max_waiting=1))

    def request(number: int, streamer: Any) -> Request:
        made = request_of(family.batch(family.single()), cut, settings())
        made.streamer = streamer
        made.on_end = lambda tokens, error: answers.on_end(number, tokens, error)
        return made

    attach(model, cut)
    try:
        loop.ask(model, request(0, held))
        assert held.begun.wait(120)
        loop.ask(model, request(1, None))
        with pytest.raises(BusyError, match="1 requests wait already"):
            loop.ask(model, request(2, None))
        held.go_on.set()
        answers.wait()
    finally:
        held.go_on.set()
        loop.stop()
        detach(model)
    assert torch.equal(answers.tokens[0], answers.tokens[1])


def test_what_does_not_fit_waits_and_what_never_fits_is_refused() -> None:
    family = FAMILIES["omni_image"]
    model, cut = family.model(), config(family, "divprune")
    inputs = family.batch(family.single())
    longer = settings()
    longer.max_new_tokens = 4000
    attach(model, cut)
    try:
        size = planned_bytes(model, request_of(inputs, cut, settings()))
        loop = BatchLoop(BatchLimits(max_batch=8, prefill_per_step=8, kv_bytes=2 * size))
        most = []
        step = Batch.step

        planned: list[int] = []

        def plan(head: Any, request: Request) -> int:
            planned.append(len(planned))
            return planned_bytes(head, request)

        def counted(batch: Batch) -> Tensor:
            most.append(len(batch.rows))
            return step(batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Batch, "step", counted)
            patch.setattr(admission, "planned_bytes", plan)
            hows = [settings(), longer, *[settings() for _ in range(4)]]
            found = ask(loop, model, [inputs] * 6, config=cut, generation_config=hows)
        loop.stop()
        expected = alone(model, inputs, cut, settings())
    finally:
        detach(model)
    assert {number: type(error) for number, error in found.errors.items()} == {1: TooLargeError}
    assert max(most) == 2
    assert planned == [0, 1, 2, 3, 4, 5], "each is planned once, however long it waits"
    assert all(torch.equal(tokens, expected) for tokens in found.tokens.values())


def test_functions_run_between_two_steps(loop: BatchLoop) -> None:
    assert loop.submit(lambda number: number + 1, 2).result(60) == 3
    failing = loop.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(60)


def test_a_model_that_nobody_asks_is_not_held(loop: BatchLoop) -> None:
    family = FAMILIES["omni_image"]
    model, cut = build("omni_image"), config(family, "divprune")
    attach(model, cut)
    given = {"config": cut, "generation_config": settings()}
    assert not ask(loop, model, [family.batch(family.single())], **given).errors
    loop.submit(lambda: None).result(60)  # the turn that ended the last request is over
    loop.submit(lambda: None).result(60)
    detach(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_a_batch_can_answer() -> None:
    assert is_batched(settings())
    make: Any = GenerationConfig
    assert is_batched(make(do_sample=True, top_k=3))
    for given in ({"num_beams": 2}, {"guidance_scale": 2.0}, {"use_cache": False}):
        assert not is_batched(make(**given))
