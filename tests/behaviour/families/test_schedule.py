"""Which rows each layer holds, against rules written out in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, Modality, detach
from tests.support.cases import (
    ATTENTIONS,
    GLOBAL,
    METHODS,
    SHAPES,
    check_fine_cut,
    config_of,
    held_of,
    media_in,
    prune,
    pruned,
    rows_of,
)
from tests.support.families import FAMILIES
from tests.support.family_configs import LAYERS
from tests.support.oracle import STEPS, decoder_layers, run
from tests.support.prompts import Row

each_family = pytest.mark.parametrize("name", FAMILIES)
each_attention = pytest.mark.parametrize("attention", ATTENTIONS)
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_method = pytest.mark.parametrize("method", METHODS)

MEDIA = {"image": Modality.IMAGE, "video": Modality.VIDEO, "audio": Modality.AUDIO}


def entrance_count(item: Row, config: FastAVConfig) -> int:
    """Rows that go into layer 0."""
    kinds = item.kinds
    seen = sum(kind in (Modality.IMAGE, Modality.VIDEO) for kind in kinds)
    heard = kinds.count(Modality.AUDIO)
    total = len(item)
    if "divprune" in config.method:
        if seen:
            total -= seen - max(1, round(config.visual_keep_ratio * seen))
        if heard and config.audio_keep_ratio is not None:
            total -= heard - max(1, round(config.audio_keep_ratio * heard))
    return total


def globally_kept(item: Row, alive: list[int], config: FastAVConfig) -> list[int]:
    """Rows that pass the global cut, by its rule."""
    rules = config.global_rule
    if isinstance(rules, str):
        rules = dict.fromkeys(MEDIA, rules)
    assert rules is not None
    seen = [item.frames[row] for row in alive if item.frames[row] >= 0]
    kept = []
    counts = dict.fromkeys(Modality, 0)
    for row in alive:
        kind = item.kinds[row]
        counts[kind] += 1
        rule = rules.get(kind.name.lower(), "all").split()
        if kind == Modality.TEXT or rule[0] == "all":
            passes = True
        elif rule[0] == "below":
            passes = row < int(rule[1])
        elif rule[2] == "tokens":
            passes = counts[kind] <= int(rule[1])
        else:
            passes = item.frames[row] < min(seen) + int(rule[1])
        if passes:
            kept.append(row)
    if media_in(item, alive) and not media_in(item, kept):
        kept = sorted([*kept, media_in(item, alive)[0]])
    return kept


@each_method
@each_shape
@each_attention
@each_family
def test_layers_hold_what_the_rules_say(name: str, attention: str, shape: str, method: str) -> None:
    result = pruned(name, attention, shape, method)
    config = config_of(name, method)
    widths = [0] * LAYERS
    for index, item in enumerate(rows_of(name, shape)):
        held = held_of(result, index, item)
        words = [row for row, kind in enumerate(item.kinds) if kind == Modality.TEXT]
        assert len(held[0]) == entrance_count(item, config)
        for layer, rows in enumerate(held):
            assert set(words) <= set(rows)
            expected = held[layer - 1] if layer else rows
            if "fastav" in method and layer == GLOBAL:
                expected = globally_kept(item, expected, config)
            if "fastav" in method and layer > GLOBAL and media_in(item, expected):
                alive = len(media_in(item, expected))
                assert config.fine_drop_ratio is not None
                fewer = max(1, math.floor((1 - config.fine_drop_ratio) * alive))
                assert len(rows) == len(expected) - alive + fewer
                assert set(rows) <= set(expected)
            else:
                assert rows == expected
            widths[layer] = max(widths[layer], len(rows))
        assert result.report.tokens_per_layer[index] == [len(rows) for rows in held]
    # Nothing is appended twice: the prompt's rows and one more for every step but the first.
    assert result.lengths == [width + STEPS - 1 for width in widths]


@each_shape
@each_attention
@pytest.mark.parametrize("method", ["fastav", "fastav+divprune"])
@each_family
def test_fine_cut_keeps_the_top_scores(name: str, method: str, attention: str, shape: str) -> None:
    """By attention recomputed with eager on the masked-dense run; ties keep the lowest row."""
    check_fine_cut(name, rows_of(name, shape), pruned(name, attention, shape, method))


def _embeddings(name: str, items: list[Row]) -> Tensor:
    """What enters the stock model's first layer: float32 [B, T, C]."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    detach(model)
    found: list[Tensor] = []
    layer = decoder_layers(model)[0]
    handle = layer.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    try:
        run(model, family.batch(items), steps=1)
    finally:
        handle.remove()
    return found[0]


def _diverse(features: Tensor, count: int) -> list[int]:
    """Greedy max-min picks in double precision."""
    units = torch.nn.functional.normalize(features.double(), dim=1)
    distances = 1 - units @ units.T
    apart = distances.clone().fill_diagonal_(math.inf)
    picks = [int(apart.amin(dim=1).argmax())]
    while len(picks) < count:
        nearest = distances[picks].amin(dim=0)
        nearest[picks] = -math.inf
        picks.append(int(nearest.argmax()))
    return sorted(picks)


@each_family
def test_divprune_picks_by_greedy_max_min_distance(name: str) -> None:
    items = rows_of(name, "ragged")
    result = pruned(name, "sdpa", "ragged", "divprune")
    config = config_of(name, "divprune")
    assert config.audio_keep_ratio is not None
    features = _embeddings(name, items)
    groups = [
        ((Modality.IMAGE, Modality.VIDEO), config.visual_keep_ratio),
        ((Modality.AUDIO,), config.audio_keep_ratio),
    ]
    for index, item in enumerate(items):
        held = held_of(result, index, item)[0]
        for kinds, ratio in groups:
            rows = [row for row, kind in enumerate(item.kinds) if kind in kinds]
            if not rows:
                continue
            mine = features[index, features.shape[1] - len(item) :][rows]
            picks = _diverse(mine, max(1, round(ratio * len(rows))))
            assert [row for row in held if row in rows] == [rows[pick] for pick in picks]


@each_shape
@each_family
def test_token_maps_name_every_token(name: str, shape: str) -> None:
    family = FAMILIES[name]
    items = rows_of(name, shape)
    result = prune(name, "sdpa", items, config_of(name, "none"), steps=1)
    found = result.cache.token_map
    assert found is not None
    for index, item in enumerate(items):
        pads = found.length - len(item)
        assert found.modality[index].tolist() == [0] * pads + [int(k) for k in item.kinds]
        assert found.frame[index].tolist() == [-1] * pads + item.frames
        segments = found.segment[index, pads:].tolist()
        runs = _runs_of(item) if not family.given_map else segments
        assert segments == runs


def _runs_of(item: Row) -> list[int]:
    """Segment of each token: media pieces in order, however many kinds are in one."""
    found, count = [], 0
    for piece in item.pieces:
        media = piece.kinds[0] > Modality.TEXT
        found += [count if media else -1] * len(piece.ids)
        count += media
    return found


def test_rows_with_too_little_media_are_not_cut() -> None:
    """The limit is each row's own."""
    items = rows_of("llava", "ragged")
    config = config_of("llava", "fastav+divprune", min_media_tokens=20)
    result = prune("llava", "sdpa", items, config)
    lengths = [[len(rows) for rows in held_of(result, i, item)] for i, item in enumerate(items)]
    assert lengths[0][-1] < lengths[0][0] < len(items[0])
    assert lengths[1] == [len(items[1])] * LAYERS
    assert lengths[2] == [len(items[2])] * LAYERS


def test_a_batch_without_media_says_so() -> None:
    items = [rows_of("llava", "ragged")[2]]
    cache: FastAVCache = prune("llava", "sdpa", items, config_of("llava", "fastav")).cache
    assert "no media" in str(cache.report().reason)
