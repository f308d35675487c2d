"""The shared test matrix: families, batches and methods, each run once and kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import (
    FastAVCache,
    FastAVConfig,
    LayerHook,
    LayerHookList,
    LayerView,
    Modality,
    detach,
)
from tests.support.families import KNOWN
from tests.support.family_configs import LAYERS
from tests.support.oracle import Run, dense_scores, held_rows, masked_dense, run
from tests.support.prompts import Row

ATTENTIONS = ("sdpa", "eager")
SHAPES = ("single", "ragged", "level", "lopsided")
GLOBAL = LAYERS // 2
TOLERANCE = 1e-4

METHODS: dict[str, dict[str, Any]] = {
    "fastav": {"fine_drop_ratio": 0.3},
    "divprune": {"visual_keep_ratio": 0.5, "audio_keep_ratio": 0.4},
    "fastav+divprune": {
        "fine_drop_ratio": 0.2,
        "visual_keep_ratio": 0.7,
        "audio_keep_ratio": 0.6,
    },
}


class KeepAll(LayerHook):
    """Asked everywhere (but before layers 1..early-1), keeps everything."""

    name = "test_keep_all"

    def __init__(self, scored: bool = False, early: int = 0) -> None:
        self.needs_scores = scored
        self.early = early

    def layers(self, num_layers: int) -> frozenset[int]:
        places = range(1 if self.needs_scores else -1, num_layers)
        return frozenset(places) - frozenset(range(1, self.early))

    def __call__(self, view: LayerView) -> Tensor:
        if self.needs_scores:
            assert view.scores is not None
            sums = view.scores.sum(dim=1)
            if (view.start < view.positions.shape[1]).all():  # the first turn
                torch.testing.assert_close(sums, torch.ones_like(sums))
            assert ((sums > 0) & (sums < 1.001)).all()
            assert (view.scores[~view.alive] == 0).all()
        return torch.ones_like(view.alive)


def config_of(name: str, method: str, **changes: Any) -> FastAVConfig:
    """The matrix's config of one method; small prompts are cut as well."""
    settings = {"global_rule": KNOWN[name].rule, "fine_drop_ratio": 0.2, "min_media_tokens": 1}
    return FastAVConfig(**({"method": method} | settings | METHODS.get(method, {}) | changes))


def rows_of(name: str, shape: str) -> list[Row]:
    found: list[Row] = getattr(KNOWN[name], shape)()
    return found


@dataclass(frozen=True)
class Pruned:
    """A pruned run and what its cache said afterwards.

    Attributes:
        run: logits and tokens.
        held: bool [B, T] per layer, prompt tokens held.
        lengths: KV entries of each layer.
        report: of all batch rows.
    """

    run: Run
    held: list[Tensor]
    lengths: list[int]
    report: Any
    cache: FastAVCache


def prune(
    name: str, attention: str, rows: list[Row], config: FastAVConfig, **options: Any
) -> Pruned:
    """Generate with a fresh FastAVCache on a model that knew nothing of it."""
    family = KNOWN[name]
    model = family.model(attention)
    cache = FastAVCache(config, family.token_map(rows))
    inputs = family.batch(rows)
    try:
        result = run(model, inputs, cache, **options)
    finally:
        detach(model)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    lengths = kv_lengths(cache)
    return Pruned(result, held, lengths, cache.report(row=None), cache)


def kv_lengths(cache: Any) -> list[int]:
    """KV entries that each layer really holds."""
    return [layer.keys.shape[2] for layer in cache.layers]


@functools.cache
def pruned(name: str, attention: str, shape: str, method: str) -> Pruned:
    return prune(name, attention, rows_of(name, shape), config_of(name, method))


@functools.cache
def stock(name: str, attention: str, shape: str) -> Run:
    """The untouched model, greedy."""
    family = KNOWN[name]
    model = family.model(attention)
    detach(model)
    return run(model, family.batch(rows_of(name, shape)))


def reference(name: str, attention: str, rows: list[Row], of: Pruned) -> Run:
    """The masked-dense run that a pruned run must equal."""
    family = KNOWN[name]
    model = family.model(attention)
    detach(model)
    return masked_dense(model, family.batch(rows), of.held, of.run.tokens)


def keep_all_config(name: str, how: str) -> FastAVConfig:
    """A config that asks for pruning in one of three ways and drops nothing."""
    if how == "none":
        return config_of(name, "none")
    if how == "hooks":
        # Qwen3-VL adds features after its first layers, where nothing may be cut.
        early = 2 if name == "qwen3_vl" else 0
        hooks = LayerHookList([KeepAll(early=early), KeepAll(scored=True, early=early)])
        return config_of(name, "none", hooks=hooks)
    return config_of(
        name,
        "fastav+divprune",
        global_rule="all",
        fine_drop_ratio=0.0,
        visual_keep_ratio=1.0,
        audio_keep_ratio=1.0,
    )


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


def held_of(result: Pruned, index: int, item: Row) -> list[list[int]]:
    """Per layer the tokens held of one prompt, counted from its first token."""
    found = []
    for layer in result.held:
        assert not layer[index, : layer.shape[1] - len(item)].any()
        found.append(layer[index, layer.shape[1] - len(item) :].nonzero().flatten().tolist())
    return found


def media_in(item: Row, rows: list[int]) -> list[int]:
    return [row for row in rows if item.kinds[row] > Modality.TEXT]


def check_fine_cut(name: str, items: list[Row], result: Pruned) -> None:
    """Every fine cut of the matrix keeps the tokens that eager attention scores best."""
    family = KNOWN[name]
    model = family.model("eager")
    detach(model)
    scores = dense_scores(model, family.batch(items), result.held)
    cuts = 0
    for index, item in enumerate(items):
        held = held_of(result, index, item)
        for layer in range(GLOBAL + 1, LAYERS):
            alive = media_in(item, held[layer - 1])
            kept = media_in(item, held[layer])
            offset = scores[0].shape[1] - len(item)
            paid = scores[layer - 1][index, offset:].tolist()
            best = sorted(alive, key=lambda row: (-paid[row], row))[: len(kept)]
            assert kept == sorted(best)
            cuts += len(alive) - len(kept)
    assert cuts > 0
