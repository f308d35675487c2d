"""`with pruned(model) as report`: what holds in the block, for whom, and what holds afterwards."""

import asyncio
import contextvars
import copy
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    StateError,
    UnsupportedError,
    attach,
    detach,
    pruned,
)
from fastav_plugin.attach import pruning as in_block
from fastav_plugin.report import PruningReport
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cases import config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.family_copies import omni, run
from tests.support.small_models import cache, config, generate, prompt, qwen2, same, snapshot


def held_by(output: Any) -> Any:
    return cache_in(output)


def test_a_block_prunes_and_leaves_nothing(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    stock = run(model, inputs)
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    with pruned(model, pruning) as report:
        for number in range(2):
            found = run(model, inputs)
            assert same(found, expected)
            assert isinstance(held_by(found), FastAVCache)
            assert len(report.reports) == number + 1
    assert snapshot(model) == before
    assert same(run(model, inputs), stock)
    assert report.last == report.reports[-1] == held_by(found).report()
    assert report.reports[0] == report.reports[1]


def test_a_block_of_a_server_tells_its_own_listener(pruning: FastAVConfig) -> None:
    """Of the first batch row, as `attach` does, and in its place; None if nothing is cut."""
    model, inputs = omni()
    expected = run(model, inputs, FastAVCache(pruning))
    outside: list[Any] = []
    inside: list[Any] = []
    attach(model, pruning, on_report=outside.append)
    with in_block(model, pruning, inside.append):
        assert same(run(model, inputs), expected)
    with in_block(model, pruning.replace(method="none"), inside.append):
        run(model, inputs)
    assert not outside
    assert inside == [held_by(expected).report(0), None]
    assert same(run(model, inputs), expected)
    assert len(outside) == 1
    detach(model)


def test_the_familys_settings_are_the_default() -> None:
    model, inputs = omni()
    with pruned(model) as report:
        found = run(model, inputs)
    assert report.method == held_by(found).config.method == "fastav"


@pytest.mark.parametrize("kind", ["attached", "none", "bound"])
def test_what_held_before_holds_afterwards(kind: str, pruning: FastAVConfig) -> None:
    model, inputs = omni()
    told: list[Any] = []
    if kind == "bound":
        run(model, inputs, FastAVCache(pruning))
    else:
        outer = pruning if kind == "attached" else FastAVConfig(method="none")
        attach(model, outer, on_report=told.append)
    expected, before = run(model, inputs), snapshot(model)
    told.clear()
    with pruned(model, pruning.replace(method="divprune")) as report:
        assert held_by(run(model, inputs)).config.method == "divprune"
        assert report.method == "divprune"
    assert told == []
    assert snapshot(model) == before
    assert same(run(model, inputs), expected)
    assert len(told) == (kind != "bound")
    detach(model)


def test_blocks_are_nested(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)

    def method() -> str:
        return str(held_by(run(model, inputs)).config.method)

    with pruned(model, pruning) as outer:
        with pruned(model, pruning.replace(method="divprune")) as inner:
            assert method() == "divprune"
            with pruned(model, FastAVConfig(method="none")) as none:
                assert type(held_by(run(model, inputs))) is DynamicCache
        assert method() == "fastav"
    assert [len(block.reports) for block in (outer, inner, none)] == [1, 1, 0]
    assert snapshot(model) == before


def test_an_error_ends_a_block_as_well(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError), pruned(model, pruning):
        with pytest.raises(RuntimeError, match="nested"), pruned(model, pruning):
            raise RuntimeError("nested")
        run(model, inputs)
        1 / 0  # noqa: B018
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("fastav", ConfigError),
        (FastAVConfig(global_layer=99), ConfigError),
    ],
)
@pytest.mark.parametrize("attached", [False, True])
def test_a_refused_block_changes_nothing(wrong: Any, error: type, attached: bool) -> None:
    model = qwen2()
    if attached:
        attach(model, config())
    before = snapshot(model)
    with pytest.raises(error), pruned(model, wrong):
        pytest.fail("the block must not begin")
    assert snapshot(model) == before


def test_it_takes_a_model() -> None:
    with pytest.raises(UnsupportedError), pruned(torch.nn.Linear(2, 2)):
        pass


def test_a_function_may_be_one_block(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)

    @pruned(model, pruning)
    def answer() -> Any:
        return run(model, inputs)

    for _ in range(2):
        assert isinstance(held_by(answer()), FastAVCache)
        assert snapshot(model) == before


# What other threads see.


def elsewhere(job: Callable[[], Any]) -> Any:
    """What a job gives in a thread that runs nothing else."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result(timeout=60)


@pytest.mark.parametrize("attached", [False, True])
def test_other_threads_run_as_before_the_block(attached: bool, pruning: FastAVConfig) -> None:
    model, inputs = omni()
    if attached:
        attach(model, pruning.replace(method="divprune"))
    before = run(model, inputs)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # the thread is older than the block
        with pruned(model, pruning) as report:
            mine = run(model, inputs)
            theirs = pool.submit(run, model, inputs).result(timeout=60)
            newer = elsewhere(lambda: run(model, inputs))
            assert same(theirs, before)
            assert same(newer, before)
            assert type(held_by(theirs)) is type(held_by(before))
            assert not same(mine, before)
            again = run(model, inputs)
    assert same(again, mine)
    assert len(report.reports) == 2
    assert same(run(model, inputs), before)


def test_a_thread_that_the_block_starts_is_warned_of(
    pruning: FastAVConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """A streamer's reader starts one: dense in silence, and nothing in the report."""
    model, inputs = omni()
    before = run(model, inputs)
    with pruned(model, pruning) as report:
        for _ in range(2):
            assert same(elsewhere(lambda: run(model, inputs)), before)
        levels = [record.levelname for record in caplog.records]
        assert levels == ["WARNING"]  # the second is logged at INFO, which is not caught
        assert "another thread than the block" in caplog.text
        assert "in its thread" in str(report)
        context = contextvars.copy_context()
        pruned_there = elsewhere(lambda: context.run(run, model, inputs))
        assert not same(pruned_there, before)
        assert report.last == held_by(pruned_there).report()
    caplog.clear()
    elsewhere(lambda: run(model, inputs))
    assert not caplog.records


def test_threads_at_once_each_with_a_block_of_its_own(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    kinds = [
        None,
        pruning,
        pruning.replace(method="divprune"),
        pruning.replace(method="fastav+divprune"),
    ]

    def job(kind: FastAVConfig | None, times: int = 1) -> Any:
        for _ in range(times):
            if kind is None:
                found = run(model, inputs)
            else:
                with pruned(model, kind) as report:
                    found = run(model, inputs)
                assert report.method == kind.method
        return found

    expected = [job(kind) for kind in kinds]
    for _ in range(3):
        barrier = threading.Barrier(len(kinds))

        def started(kind: FastAVConfig | None, barrier: Any = barrier) -> Any:
            barrier.wait()
            return job(kind, times=3)

        with ThreadPoolExecutor(len(kinds)) as pool:
            found = [future.result(300) for future in [pool.submit(started, k) for k in kinds]]
        assert all(same(one, two) for one, two in zip(found, expected, strict=True))
        assert snapshot(model) == before


def test_a_block_that_ends_while_another_thread_generates(pruning: FastAVConfig) -> None:
    """Dense, or with a FastAVCache that found the model bound by the block."""
    model, inputs = omni()
    for past in (lambda: None, lambda: FastAVCache(pruning)):
        expected = run(model, inputs, past())
        detach(model)
        entered, left = threading.Event(), threading.Event()

        def wait(*_: Any, entered: Any = entered, left: Any = left) -> None:
            if threading.current_thread() is not threading.main_thread():
                entered.set()
                assert left.wait(300)

        handle = model.get_decoder().layers[1].register_forward_pre_hook(wait)
        with ThreadPoolExecutor(1) as pool:
            with pruned(model, pruning):
                theirs = pool.submit(run, model, inputs, past())
                assert entered.wait(300)
            left.set()
            assert same(theirs.result(300), expected)
        handle.remove()
        detach(model)
        assert not any(module._forward_pre_hooks for module in model.modules())


def test_tasks_of_asyncio_take_the_block_along(pruning: FastAVConfig) -> None:
    model, inputs = omni()

    async def served() -> tuple[Any, Any, Any]:
        with pruned(model, pruning):
            inside = await asyncio.to_thread(run, model, inputs)
            task = asyncio.create_task(asyncio.to_thread(run, model, inputs))
            tasked = await task
        return inside, tasked, await asyncio.to_thread(run, model, inputs)

    inside, tasked, after = asyncio.run(served())
    assert isinstance(held_by(inside), FastAVCache)
    assert same(tasked, inside)
    assert type(held_by(after)) is DynamicCache


def test_a_context_that_outlives_the_block(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    with pruned(model, pruning):
        kept = contextvars.copy_context()
        assert isinstance(held_by(kept.run(run, model, inputs)), FastAVCache)
    assert type(held_by(kept.run(run, model, inputs))) is DynamicCache
    assert snapshot(model) == before
    with pruned(model, pruning):
        assert type(held_by(kept.run(run, model, inputs))) is DynamicCache


def answers(model: Any, inputs: Any, settings: FastAVConfig) -> Iterator[Any]:
    with pruned(model, settings):
        while True:
            yield run(model, inputs)


def test_generators_that_end_in_any_order(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    first = answers(model, inputs, pruning)
    second = answers(model, inputs, pruning.replace(method="divprune"))
    assert held_by(next(first)).config.method == "fastav"
    assert held_by(next(second)).config.method == "divprune"
    first.close()  # type: ignore[attr-defined]
    assert held_by(next(second)).config.method == "divprune"
    elsewhere(second.close)  # type: ignore[attr-defined]
    assert snapshot(model) == before
    assert type(held_by(run(model, inputs))) is DynamicCache


def test_nothing_is_kept_of_a_block(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with pruned(model, pruning) as report:
        past = held_by(run(model, inputs))
    kept = weakref.ref(report), weakref.ref(past)
    del report, past
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


# attach and detach inside a block.


def test_detach_inside_a_block_undoes_what_holds_outside(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    attach(model, pruning.replace(method="divprune"))
    with pruned(model, pruning):
        detach(model)
        detach(model)
        assert held_by(run(model, inputs)).config.method == "fastav"
        assert type(held_by(elsewhere(lambda: run(model, inputs)))) is DynamicCache
    assert snapshot(model) == before


def test_attach_inside_a_block_holds_outside(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with pruned(model, pruning):
        attach(model, pruning.replace(method="divprune"))
        assert held_by(run(model, inputs)).config.method == "fastav"
        assert held_by(elsewhere(lambda: run(model, inputs))).config.method == "divprune"
    assert held_by(run(model, inputs)).config.method == "divprune"
    detach(model)


def test_a_copy_of_the_model_made_in_a_block(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with pruned(model, pruning):
        twin = copy.deepcopy(model)
        assert isinstance(held_by(run(model, inputs)), FastAVCache)
        assert type(held_by(run(twin, inputs))) is DynamicCache
    detach(twin)
    assert not any(module._forward_pre_hooks for module in twin.modules())


# Compiled models.


@pytest.fixture
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def llava() -> tuple[Any, Any, FastAVConfig]:
    family = FAMILIES["llava"]
    model = copy.deepcopy(family.model("sdpa"))
    return model, family.batch(rows_of("llava", "single")), config_of("llava", "fastav")


def test_a_compiled_model_is_refused_unless_it_was_attached_before() -> None:
    model = qwen2()
    model.compile(backend="eager")
    with pytest.raises(UnsupportedError, match="[Aa]ttach, then compile"), pruned(model, config()):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_fresh_dynamo")
def test_a_model_that_is_attached_then_compiled_then_pruned_in_a_block() -> None:
    model, inputs, settings = llava()
    stock = run(model, inputs).sequences
    with pruned(model, settings):
        expected = run(model, inputs).sequences
    attach(model, FastAVConfig(method="none"))
    model.compile(backend="eager")
    for _ in range(2):
        assert torch.equal(run(model, inputs).sequences, stock)
        with pruned(model, settings) as report:
            assert torch.equal(run(model, inputs).sequences, expected)
        assert report.flops_ratio < 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_fresh_dynamo")
def test_a_model_that_is_compiled_in_a_block() -> None:
    model, inputs, settings = llava()
    stock = run(model, inputs).sequences
    with pruned(model, settings):
        expected = run(model, inputs).sequences
        model.compile(backend="eager")
        assert torch.equal(run(model, inputs).sequences, expected)
    assert torch.equal(run(model, inputs).sequences, stock)


# What a block reports.


def test_it_stands_for_the_last_report(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with pruned(model, pruning) as report:
        with pytest.raises(StateError, match="no generate"):
            report.flops_ratio  # noqa: B018
        assert str(report) == "no generate() has ended in this block, and in its thread, yet"
        assert report._repr_html_() is None
        past = held_by(run(model, inputs))
        expected = past.report()
        assert isinstance(report.last, PruningReport)
        assert str(report) == str(expected)
        assert report._repr_html_() == expected._repr_html_()
        assert report.tokens_per_layer == expected.tokens_per_layer
        assert report.kept_positions(-1) == expected.kept_positions(-1)
        assert report.to_dict() == expected.to_dict()
        assert repr(report) == f"Reports(1, the last: {expected})"
        with pytest.raises(AttributeError, match="flops_ration"):
            report.flops_ration  # noqa: B018
        assert copy.copy(report).reports == report.reports
        run(model, inputs, DynamicCache())
        assert len(report.reports) == 1
        assert "made no report: it had a cache" in str(report)
        with pytest.raises(StateError, match="cache or a loop of the caller's"):
            report.last  # noqa: B018


def test_a_batch_is_reported_as_a_whole(pruning: FastAVConfig) -> None:
    inputs = FAMILIES["omni_all"].batch(rows_of("omni_all", "ragged"))
    model = copy.deepcopy(FAMILIES["omni_all"].model("sdpa"))
    with pruned(model, config_of("omni_all", "fastav")) as report:
        past = held_by(run(model, inputs))
    assert report.last == past.report(None)
    assert f"{inputs['input_ids'].shape[0]} rows: " in str(report)
    detach(model)


def test_a_users_fastav_cache_is_left_alone() -> None:
    model = qwen2()
    expected = generate(model, prompt(), cache())
    detach(model)
    with pruned(model, config(global_layer=1)):
        assert same(generate(model, prompt(), cache()), expected)
    assert generate(model, prompt()).sequences.shape == expected.sequences.shape
    detach(model)
    assert not any(module._forward_pre_hooks for module in model.modules())
