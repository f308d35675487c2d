"""What torch.compile makes of an attached model: graphs counted against the stock model's."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from fastav_plugin import FastAVCache, TokenMap, attach, detach
from tests.behaviour.life_cycle.graphs import Graphs, breaks
from tests.support.cache_names import passing
from tests.support.small_models import config, generate, prompt, qwen2, tokens

#: Dynamo may make GRAPHS graphs of one function here; prefill and a decoded token run twice as
#: many layers, so layers must share.
LAYERS = 6
GRAPHS = 6
STEPS = 4
IDS = prompt()


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    _reset()
    # Past its limit dynamo runs a function uncompiled, which no graph break shows.
    with torch._dynamo.config.patch(recompile_limit=GRAPHS, fail_on_recompile_limit_hit=True):
        yield
    _reset()


def _reset() -> None:
    torch._dynamo.reset()
    counters.clear()


def slow(*case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


def whole(model: Any, graphs: Graphs, **options: Any) -> None:
    model.compile(backend=graphs.compile, **options)


def forward(model: Any, graphs: Graphs, **options: Any) -> None:
    model.forward = torch.compile(model.forward, backend=graphs.compile, **options)


def layers(model: Any, graphs: Graphs, **options: Any) -> None:
    """Regional compilation."""
    for layer in model.model.layers:
        layer.compile(backend=graphs.compile, **options)


def attached(seed: int = 0, attention: str = "sdpa", **changes: Any) -> Any:
    model = qwen2(seed, attention, **({"num_hidden_layers": LAYERS} | changes))
    return attach(model, config())


def run(model: Any, graphs: Graphs | None, ids: Any = IDS, new: int = STEPS, **given: Any) -> Any:
    processors = {} if graphs is None else {"logits_processor": [graphs]}
    maps = tokens().extend(ids.shape[1] - IDS.shape[1])
    maps = TokenMap.batch([maps] * ids.shape[0]) if ids.shape[0] > 1 else maps
    return generate(model, ids, FastAVCache(config(), maps), new, **processors, **given)


def assert_same(one: Any, two: Any) -> None:
    assert torch.equal(one.sequences, two.sequences)
    for a, b in zip(one.logits, two.logits, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "dynamic"), [(whole, None), slow(whole, True), slow(forward, None)]
)
def test_a_decoded_token_is_one_graph(way: Any, dynamic: bool | None) -> None:
    """As of the stock model: no break at a hook, at a cache update, or between layers."""
    stock, pruned = Graphs(), Graphs()
    model = qwen2()
    way(model, stock, dynamic=dynamic)
    generate(model, IDS, new=STEPS, logits_processor=[stock])
    assert not breaks()

    model = attached(num_hidden_layers=4)
    expected = run(model, None)
    way(model, pruned, dynamic=dynamic)
    assert_same(run(model, pruned, new=STEPS), expected)
    for step in range(1, STEPS):
        assert pruned.attention_calls(step) == stock.attention_calls(step) == [4]
    assert pruned.made_after[2] == pruned.made_after[-1]


def test_a_cache_that_waits_for_its_model_breaks_no_layer_of_another() -> None:
    waiting = FastAVCache(config(), tokens())
    # Dynamo has been told of wrappers by then; else each forward's is a frame of its own.
    detach(attached())
    model, graphs = qwen2(), Graphs()
    whole(model, graphs)
    generate(model, IDS, new=STEPS, logits_processor=[graphs])
    assert [graphs.attention_calls(step) for step in range(STEPS)] == [[4]] * STEPS
    reasons = breaks()
    assert reasons and all("Discovery" in reason for reason in reasons)
    assert waiting.get_seq_length() == 0


@pytest.mark.parametrize("way", [slow(whole), layers])
def test_a_prefill_breaks_at_hooks_only(way: Any) -> None:
    """Attention is in one graph per layer, scored or not, and layers share graphs."""
    model, graphs = attached(), Graphs()
    way(model, graphs)
    run(model, graphs)
    assert graphs.attention_calls(0) == [1] * LAYERS
    # Whole, cut and scored, cut and not scored.
    assert len({number for number in graphs.steps[0] if graphs.made[number]}) == 3
    reasons = breaks()
    # Layers that are compiled one by one run their hooks outside.
    assert bool(reasons) == (way is whole)
    for reason in reasons:
        assert "Binding._open " in reason or "Prefill.enter" in reason


@pytest.mark.parametrize("attention", ["sdpa", slow("eager")])
def test_compiled_layers_break_nowhere(attention: str) -> None:
    model, graphs = attached(attention=attention), Graphs()
    expected = run(model, None)
    layers(model, graphs)
    assert_same(run(model, graphs), expected)
    assert not breaks()
    assert [len(step) for step in graphs.steps] == [LAYERS] * STEPS


@pytest.mark.slow
def test_graphs_do_not_grow_with_tokens_or_prompts() -> None:
    model, graphs = attached(), Graphs()
    whole(model, graphs)
    run(model, graphs, new=40)
    assert graphs.made_after[2] == graphs.made_after[-1]
    for seed, extra in ((1, 3), (2, 9), (3, 5)):
        longer = torch.cat([IDS, prompt(seed, length=extra)], dim=1)
        run(model, graphs, longer)
    known = len(graphs.made)
    for seed, extra in ((4, 2), (5, 7)):
        longer = torch.cat([IDS, prompt(seed, length=extra)], dim=1)
        assert_same(run(model, graphs, longer), run(attached(), None, longer))
    assert len(graphs.made) == known


@pytest.mark.parametrize(
    ("way", "attention"),
    [(layers, "sdpa"), slow(layers, "eager"), slow(whole, "sdpa"), slow(whole, "eager")],
)
def test_a_padded_batch(way: Any, attention: str) -> None:
    """The mask that each layer's columns are picked from is part of the graph."""
    short = TokenMap.from_spans(20, video=[(2, 10)])
    maps = TokenMap.batch([tokens(), short], padding_side="left")
    ids = torch.cat([IDS, torch.nn.functional.pad(prompt(1, length=20), (10, 0))])
    mask = torch.ones_like(ids)
    mask[1, :10] = 0
    settings = {
        "attention_mask": mask,
        "max_new_tokens": STEPS,
        "return_dict_in_generate": True,
        "output_logits": True,
        "do_sample": False,
    }
    model, graphs = attached(attention=attention), Graphs()
    expected = model.generate(ids, **passing(FastAVCache(config(), maps)), **settings)
    way(model, graphs)
    past = FastAVCache(config(), maps)
    out = model.generate(ids, **passing(past), logits_processor=[graphs], **settings)
    assert_same(out, expected)
    ran = {len(step) for step in graphs.steps[1:]}
    assert ran == ({1} if way is whole else {LAYERS})


@pytest.mark.slow
def test_never_dynamic_is_still_right() -> None:
    """Stock recompiles with every token as well, until dynamo gives up."""
    model, graphs = attached(num_hidden_layers=4), Graphs()
    expected = run(model, None)
    whole(model, graphs, dynamic=False)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=False):
        assert_same(run(model, graphs, new=STEPS), expected)


@pytest.mark.parametrize("way", [slow(whole), slow(forward), layers])
def test_two_instances_share_code_but_not_caches(way: Any) -> None:
    """Dynamo keeps graphs per function, and does not guard on hooks."""
    one, two = (attached(seed, num_hidden_layers=4) for seed in (1, 2))
    stock, detached = qwen2(3), qwen2(2)
    expected = [run(one, None), run(two, None), generate(stock, IDS)]
    for model in (one, two, stock):
        way(model, Graphs())
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=False):
        assert_same(run(one, None), expected[0])
        assert_same(generate(stock, IDS), expected[2])
        assert_same(run(two, None), expected[1])
        assert_same(run(one, None), expected[0])
        dense = generate(detached, IDS)
        detach(two)
        assert_same(generate(two, IDS), dense)
        assert_same(run(one, None), expected[0])
