"""Several requests at once: on one model, and on several instances of one class."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.behaviour.decoding.test_conversations import longer
from tests.support.cache_names import passing
from tests.support.cases import config_of, rows_of
from tests.support.families import FAMILIES, build
from tests.support.prompts import SUPPRESSED
from tests.support.small_models import (
    COUNTS,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
    tokens,
)

ROUNDS = 6
PROMPTS = [prompt(seed) for seed in range(4)]


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs at once, starting behind one barrier; raises what any of them raised."""
    barrier = threading.Barrier(len(jobs))

    def started(job: Callable[[], Any]) -> Any:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(started, j) for j in jobs]]


def request(model: Any, number: int) -> Any:
    """One request unlike the others: its prompt, and the layer of its global cut."""
    return generate(model, PROMPTS[number], FastAVCache(kind(number), tokens()))


def kind(number: int) -> FastAVConfig:
    return config(global_layer=1 + number % 3)


def test_two_threads_on_one_fresh_model() -> None:
    expected = [request(qwen2(), number) for number in range(3)]
    for _ in range(ROUNDS):
        model = qwen2()  # fresh, so that both threads search, bind and rename at once
        found = together(*[partial(request, model, number) for number in range(3)])
        assert all(same(one, two) for one, two in zip(found, expected, strict=True))
        detach(model)
        assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(global_hooks().values())


def test_dense_and_pruned_at_once_on_one_model() -> None:
    stock, pruned = generate(qwen2(), PROMPTS[0]), request(qwen2(), 1)
    for _ in range(ROUNDS):
        model = qwen2()
        dense, cut = together(partial(generate, model, PROMPTS[0]), partial(request, model, 1))
        assert same(dense, stock)
        assert same(cut, pruned)


def test_instances_of_one_class() -> None:
    def models() -> list[Any]:
        return [qwen2(seed) for seed in range(2)]

    expected = [request(model, number) for number, model in enumerate(models())]
    for _ in range(ROUNDS):
        one, two = models()
        found = together(partial(request, one, 0), partial(request, two, 1))
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_an_attached_model_and_a_stock_one_of_the_same_class() -> None:
    """What one thread's generate marks must not reach another model or thread."""
    attached, plain = qwen2(0), qwen2(1)
    stock = generate(plain, PROMPTS[1])
    attach(attached, config(global_rule="below 5"))
    first = generate(attached, PROMPTS[0])
    for _ in range(ROUNDS):
        one, two = together(
            lambda: generate(attached, PROMPTS[0]), lambda: generate(plain, PROMPTS[1])
        )
        assert same(one, first)
        assert same(two, stock)
    detach(attached)


def test_a_direct_call_while_another_thread_generates() -> None:
    """The mark of a running generate belongs to its own context."""
    model = qwen2()
    with torch.inference_mode():
        stock = model(input_ids=PROMPTS[1]).logits
    attach(model, config())

    def direct() -> Any:
        with torch.inference_mode():
            return [model(input_ids=PROMPTS[1]) for _ in range(10)]

    for _ in range(ROUNDS):
        calls, _ = together(direct, lambda: generate(model, PROMPTS[0], new=12))
        assert all(torch.equal(out.logits, stock) for out in calls)
        assert not any(isinstance(cache_in(out), FastAVCache) for out in calls)
    detach(model)


def test_a_stream_of_tokens_from_a_thread() -> None:
    """The usual server pattern: generate in a thread, read from this one."""
    model = qwen2()
    expected = generate(model, PROMPTS[0], cache()).sequences[0]
    seen: list[int] = []

    class Streamer:
        def put(self, value: torch.Tensor) -> None:
            seen.extend(value.reshape(-1).tolist())

        def end(self) -> None:
            seen.append(-1)

    past = cache()
    thread = threading.Thread(
        target=generate, args=(model, PROMPTS[0], past), kwargs={"streamer": Streamer()}
    )
    thread.start()
    thread.join(timeout=60)
    assert seen == [*expected.tolist(), -1]
    assert past.report().tokens_per_layer == COUNTS


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns all the time, so that a race has its chance."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def test_another_thread_binds_the_model_after_a_call_began() -> None:
    """torch lists a call's hooks as it begins: the model's own are not among them then."""
    model = qwen2()
    expected = [request(qwen2(), number) for number in range(2)]
    others: list[Any] = []

    def meanwhile(module: torch.nn.Module, args: Any) -> None:
        if not others:
            others.append(None)
            others[0] = together(partial(request, model, 1))[0]

    # The first of the process-wide hooks, so that it runs before the search looks at the call.
    handle = torch.nn.modules.module.register_module_forward_pre_hook(meanwhile)
    try:
        found = request(model, 0)
    finally:
        handle.remove()
    assert same(others[0], expected[1])
    assert same(found, expected[0])
    assert same(request(model, 0), expected[0])


@pytest.mark.usefixtures("restless")
def test_many_searches_at_once() -> None:
    """Fresh caches of several batch sizes, dense calls, and another model that is never bound."""
    other = qwen2(seed=4)

    def job(model: Any, number: int) -> Any:
        ids = prompt(number, batch=1 + number % 3)
        if number % 4 == 3:
            return generate(model, ids, new=3)
        maps = TokenMap.batch([tokens()] * ids.shape[0], padding_side="left")
        return generate(model, ids, FastAVCache(kind(number), maps), new=3)

    expected = [job(qwen2(), number) for number in range(7)]
    dense = generate(other, PROMPTS[0], new=3)
    for _ in range(3):
        model = qwen2()
        jobs = [partial(job, model, number) for number in range(7)]
        *found, stock = together(*jobs, partial(generate, other, PROMPTS[0], new=3))
        assert all(same(one, two) for one, two in zip(found, expected, strict=True))
        assert same(stock, dense)
        detach(model)
        gc.collect()
        for module in (*model.modules(), *other.modules()):
            assert not module._forward_pre_hooks
            assert not module._forward_pre_hooks_with_kwargs
    assert not any(global_hooks().values())


def _say(model: Any, inputs: dict[str, Any], **settings: Any) -> Any:
    return model.generate(
        **inputs,
        max_new_tokens=4,
        do_sample=False,
        suppress_tokens=SUPPRESSED,
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )


def _chat(model: Any, name: str, inputs: dict[str, Any]) -> Any:
    past = FastAVCache(config_of(name, "fastav"))
    first = _say(model, inputs, **passing(past))
    return _say(model, longer(inputs, first.sequences), **passing(past))


class _Quiet:
    """A streamer, read by nobody."""

    def __init__(self) -> None:
        self.said: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.said.extend(value.reshape(-1).tolist())

    def end(self) -> None:
        self.said.append(-1)


def _streamed(model: Any, inputs: dict[str, Any]) -> Any:
    streamer = _Quiet()
    result = _say(model, inputs, streamer=streamer)
    assert streamer.said == [*result.sequences[0].tolist(), -1]
    return result


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_interleaved", "gemma3"])
def test_one_attached_model_serves_all_kinds_of_calls(name: str) -> None:
    """Exchanged and own caches, dense ones, beams, drafts, streams and chats, of several widths."""
    model = build(name)
    family = FAMILIES[name]
    single, ragged = (family.batch(rows_of(name, shape)) for shape in ("single", "ragged"))
    text = model.config.get_text_config(decoder=True)

    def own(inputs: dict[str, Any], method: str) -> Any:
        return _say(model, inputs, **passing(FastAVCache(config_of(name, method))))

    jobs: list[Callable[[], Any]] = [
        lambda: _say(model, single),
        lambda: _say(model, ragged),
        lambda: own(single, "divprune"),
        lambda: own(ragged, "fastav"),
        lambda: _say(model, ragged, **passing(DynamicCache(config=text))),
        lambda: _say(model, single, num_beams=2),
        lambda: _say(model, single, prompt_lookup_num_tokens=3),
        lambda: _streamed(model, single),
        lambda: _chat(model, name, single),
        lambda: _chat(model, name, ragged),
    ]
    attach(model, config_of(name, "fastav+divprune"))
    expected = [job() for job in jobs]
    for _ in range(2):
        found = together(*jobs)
        for number, (one, two) in enumerate(zip(found, expected, strict=True)):
            assert same(one, two), f"job {number}"
            assert type(cache_in(one)) is type(cache_in(two))
    detach(model)
