"""Rollout that hooks read, against the matrices of eager attention multiplied out."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import (
    FastAVCache,
    LayerHook,
    LayerHookList,
    LayerView,
    StateError,
    UnsupportedError,
    detach,
)
from fastav_plugin.hooks import ENTRANCE
from fastav_plugin.model_overrides import find_override
from fastav_plugin.pruning.rollout_view import Rollout
from tests.support.attentions import flash_model, flash_registered, uncompiled_flex
from tests.support.cases import assert_close, config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.family_configs import LAYERS, hub, spread, text_config
from tests.support.oracle import STEPS, decoder_layers, dense_attention, held_rows, hidden, run
from tests.support.prompts import PAD, Row
from tests.support.turns import conversation, talk, turns_of

ALPHA = 0.4
#: What is read of a rollout: the last row, column sums, and both again for every depth.
Seen = dict[int, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]


class Watcher(LayerHook):
    """Reads the rollout at some places, and drops nothing."""

    name = "test_watcher"
    needs_rollout = True

    def __init__(self, *places: int) -> None:
        self.places = frozenset(places or range(1, LAYERS))
        self.seen: Seen = {}

    def layers(self, num_layers: int) -> frozenset[int]:
        return self.places

    def __call__(self, view: LayerView) -> None:
        assert view.rollout is not None and len(view.rollout) == view.layer
        rollout = view.rollout
        last, sums = rollout.last_row(ALPHA), rollout.column_sums(ALPHA)
        for found in (last, sums):
            assert found.dtype == torch.float32 and found.shape == view.alive.shape
            assert (found[view.positions < 0] == 0).all()
        self.seen[view.layer] = (view.positions, last, sums, *rollout.by_depth(ALPHA))


class Drop(LayerHook):
    """Drops every third media row at one place."""

    name = "test_drop"

    def __init__(self, place: int) -> None:
        self.place = place

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({self.place})

    def __call__(self, view: LayerView) -> Tensor:
        return (view.positions - view.start[:, None]) % 3 != self.place % 3


def product(attention: list[Tensor], start: Tensor) -> Tensor:
    """`start` (float64 [B, T]) times the rollout of these layers, from the last down."""
    for layer in reversed(attention):
        start = ALPHA * (start[:, None] @ layer)[:, 0] + (1 - ALPHA) * start
    return start


def check(seen: Seen, attention: list[Tensor], held: list[Tensor], *, offset: int = 0) -> None:
    """Compare all that was read with the definition; `offset` is where the turn's rows begin."""
    for place, (positions, last, sums, lasts, all_sums) in seen.items():
        assert lasts.shape[0] == all_sums.shape[0] == place
        for depth in range(1, place + 1):
            alive = held[depth - 1].double()
            alive[:, :offset] = 0
            only_last = torch.zeros_like(alive)
            only_last[:, alive.shape[1] - 1] = 1
            read = [(lasts[depth - 1], only_last), (all_sums[depth - 1], alive)]
            if depth == place:
                read += [(last, only_last), (sums, alive)]
            for found, start in read:
                expected = product(attention[:depth], start)
                for row, places in enumerate(positions):
                    real = (places >= 0) & (places < expected.shape[1])
                    mine = found[row][real].double()
                    torch.testing.assert_close(mine, expected[row][places[real]], rtol=0, atol=1e-5)
                    assert (found[row][~real] == 0).all()


def observe(
    name: str, attention: str, items: list[Row], others: list[LayerHook], **options: Any
) -> tuple[Watcher, FastAVCache]:
    watcher = Watcher()
    hooks = LayerHookList([watcher, *others])
    family = FAMILIES[name]
    model = flash_model(name) if attention == "flash" else family.model(attention)
    cache = FastAVCache(config_of(name, "none", hooks=hooks), family.token_map(items))
    try:
        run(model, family.batch(items), cache, **options)
    finally:
        detach(model)
    return watcher, cache


#: Without a cut, after one before layer 0, with one between the layers, with both.
CUTS: dict[str, list[int]] = {
    "none": [],
    "entrance": [ENTRANCE],
    "between": [2, 4],
    "both": [ENTRANCE, 3],
}

QUICK = [
    ("omni_interleaved", "sdpa", "ragged", "both"),
    ("llava", "eager", "level", "between"),
    ("llama_text", "flash", "ragged", "both"),
    ("qwen2_5_vl", "sdpa", "lopsided", "none"),
]
ALL = [
    pytest.param(name, attention, shape, cut, marks=pytest.mark.slow)
    for name in ("omni_interleaved", "omni_all", "llava", "qwen2_5_vl", "qwen2_text", "llama_text")
    for attention in ("sdpa", "eager", "flash")
    for shape in ("single", "ragged", "level", "lopsided")
    for cut in CUTS
    if (name, attention, shape, cut) not in QUICK
]


@pytest.mark.parametrize(("name", "attention", "shape", "cut"), [*QUICK, *ALL])
def test_rollout_equals_the_product_of_eager_attention(
    name: str, attention: str, shape: str, cut: str
) -> None:
    items = rows_of(name, shape)
    others: list[LayerHook] = [Drop(place) for place in CUTS[cut]]
    if attention == "flash":
        with flash_registered():
            watcher, cache = observe(name, attention, items, others, steps=2)
    else:
        watcher, cache = observe(name, attention, items, others, steps=2)
    inputs = FAMILIES[name].batch(items)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    counts = [int(mask.sum()) for mask in held]
    assert (counts[0] < inputs["attention_mask"].sum()) == (cut in ("entrance", "both"))
    assert (counts[-1] < counts[0]) == (cut in ("between", "both"))
    eager = FAMILIES[name].model("eager")
    detach(eager)
    assert sorted(watcher.seen) == list(range(1, LAYERS))
    real = inputs["attention_mask"].bool()
    check(watcher.seen, dense_attention(eager, inputs, held), [mask & real for mask in held])


def test_looking_changes_nothing() -> None:
    items = rows_of("llava", "ragged")
    family = FAMILIES["llava"]
    _, cache = observe("llava", "sdpa", items, [], steps=1)
    model = family.model("sdpa")
    plain = run(model, family.batch(items), steps=3)
    watched = FastAVCache(config_of("llava", "none", hooks=[Watcher()]))
    found = run(model, family.batch(items), watched, steps=3)
    detach(model)
    assert torch.equal(found.logits, plain.logits)
    report = cache.report()
    assert set(report.tokens_per_layer) == {47}
    # Looking costs, though nothing is cut.
    assert report.flops_ratio == pytest.approx(1 + report.overhead_ratio) and report.overhead_ratio


def test_drafts_are_not_seen() -> None:
    """Prompt lookup brings drafted rows after the last one of the prompt."""
    items = [rows_of("llama_text", "single")[0]]
    repeated = Row((*items[0].pieces, items[0].pieces[-1]))
    plain, _ = observe("llama_text", "sdpa", [repeated], [Drop(2)], steps=4)
    drafted, _ = observe(
        "llama_text", "sdpa", [repeated], [Drop(2)], steps=4, prompt_lookup_num_tokens=3
    )
    longer = 0
    for place, (positions, *read) in plain.seen.items():
        width = positions.shape[1]
        others = drafted.seen[place]
        longer = max(longer, others[0].shape[1] - width)
        for mine, other in zip(read, others[1:], strict=True):
            assert_close(other[..., :width], mine)
            assert (other[..., width:] == 0).all()
    assert longer > 0, "the first forward must carry drafts"


@pytest.mark.parametrize("cut", [[], [2]])
def test_a_later_turn_shows_the_turn_alone(cut: list[int]) -> None:
    """What goes to earlier turns leaves the rollout."""
    name = "llava"
    turns = turns_of(name, "ragged")[:2]
    watcher = Watcher()
    hooks = LayerHookList([watcher, *(Drop(place) for place in cut)])
    cache = FastAVCache(config_of(name, "none", hooks=hooks))
    model = FAMILIES[name].model("sdpa")
    try:
        found = talk(name, model, cache, turns)
    finally:
        detach(model)
    length = conversation(turns)
    held = held_rows(cache, length)
    eager = FAMILIES[name].model("eager")
    # The last token of the answer comes with the next turn.
    before = FAMILIES[name].batch(turns[0])["input_ids"].shape[1] + STEPS - 1
    attention: list[Tensor] = []
    handles = [
        layer.self_attn.register_forward_hook(  # type: ignore[union-attr]
            lambda module, args, output: attention.append(output[1].double().mean(dim=1))
        )
        for layer in decoder_layers(eager)
    ]
    try:
        with hidden(eager, held):
            talk(name, eager, None, turns, said=[turn.tokens for turn in found])
    finally:
        for handle in handles:
            handle.remove()
    later = [
        torch.nn.functional.pad(layer, (0, 0, layer.shape[2] - layer.shape[1], 0))
        for layer in attention
        if layer.shape[2] == length and layer.shape[1] > 1
    ]
    assert len(later) == LAYERS
    check(watcher.seen, later, held, offset=before)


class Keeper(LayerHook):
    """Keeps hold of the view's rollout beyond its time."""

    name = "test_keeper"
    needs_rollout = True

    def __init__(self) -> None:
        self.rollout: Any = None
        self.queries: list[Any] = []

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({2, 3})

    def __call__(self, view: LayerView) -> None:
        assert isinstance(view.rollout, Rollout)
        self.rollout = view.rollout
        self.queries = [weakref.ref(layer.query) for layer in view.rollout._open()]
        assert all(query() is not None for query in self.queries)


class Later(LayerHook):
    """Looks whether the queries are gone at a later place."""

    name = "test_later"

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.alive: list[bool] = []

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({4})

    def __call__(self, view: LayerView) -> None:
        self.alive = [query() is not None for query in self.keeper.queries]


def test_queries_are_let_go_after_the_last_place() -> None:
    keeper = Keeper()
    later = Later(keeper)
    family = FAMILIES["llama_text"]
    items = rows_of("llama_text", "single")
    model = family.model("sdpa")
    config = config_of("llama_text", "none", hooks=[keeper, later])
    run(model, family.batch(items), FastAVCache(config, family.token_map(items)), steps=1)
    detach(model)
    assert later.alive == [False] * 3
    with pytest.raises(StateError, match="only while the hook is called"):
        keeper.rollout.last_row()


def _refused(model: Any, name: str, match: str) -> None:
    family = FAMILIES[name]
    items = rows_of(name, "single")
    cache = FastAVCache(config_of(name, "none", hooks=[Watcher(3)]), family.token_map(items))
    with pytest.raises(UnsupportedError, match=match):
        run(model, family.batch(items), cache, steps=1)
    detach(model)
    # The model is usable afterwards.
    assert run(model, family.batch(items), steps=1).logits.isfinite().all()


def test_windows_are_refused() -> None:
    _refused(FAMILIES["gemma3"].model("sdpa"), "gemma3", "sliding window of 12")


def test_masks_that_look_both_ways_are_refused() -> None:
    family = FAMILIES["gemma3"]
    config = family.config()
    config.text_config.layer_types = ["full_attention"] * LAYERS
    model = hub.Gemma3ForConditionalGeneration._from_config(config, attn_implementation="eager")
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    _refused(model.eval(), "gemma3", "bidirectional")


def test_modules_that_look_both_ways_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama_text"].model("sdpa")
    monkeypatch.setattr(decoder_layers(model)[1].self_attn, "is_causal", False)
    _refused(model, "llama_text", "LlamaAttention's is bidirectional")


def test_capped_logits_are_refused() -> None:
    config = hub.Gemma2Config(
        **text_config(head_dim=12, query_pre_attn_scalar=12, sliding_window=4096)
    )
    model = hub.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    spread(model)
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    _refused(model.eval(), "llama_text", "cap on the logits")


@pytest.mark.slow
def test_flex_attention_is_refused() -> None:
    with uncompiled_flex():
        _refused(FAMILIES["llama_text"].model("flex_attention"), "llama_text", "flex_attention")


def test_models_that_hand_over_no_attention_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At binding, as hooks that read scores."""
    model = FAMILIES["llama_text"].model("sdpa")
    monkeypatch.setattr(type(find_override(model)), "scores_allowed", lambda self, head: False)
    _refused(model, "llama_text", "cannot be read")
