"""Several requests at once: on one model, and on several instances of one class."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from tests.life_cycle.models import (
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
    """One request of its own kind: its prompt, and its place of the global cut."""
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
        assert not any(isinstance(out.past_key_values, FastAVCache) for out in calls)
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
