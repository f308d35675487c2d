"""Methods that keep a share of the media on entering one layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin import ConfigError, FastAVConfig, HookError, LayerHookList
from fastav_plugin.functional.hashing import fingerprints, mix
from fastav_plugin.hooks import (
    ENTRANCE,
    VTW,
    FastV,
    LateRemoval,
    LowAttentive,
    PyramidDrop,
    RandomPruning,
    RolloutGuided,
    UniformStride,
)
from fastav_plugin.hooks.ratio_pruning import counts_of, spread_evenly
from tests.support.views import make_view, modalities, shown

ROW = "tvvvvaaaat"
SCORES = torch.tensor([[0.1, 0.05, 0.2, 0.1, 0.15, 0.01, 0.02, 0.3, 0.04, 0.03]])


def test_each_kind_by_itself_or_together() -> None:
    view = make_view(modalities(ROW), scores=SCORES)
    assert shown(FastV(0.5)(view), view.modality) == ["t-v-vaaaat"]
    assert shown(FastV(0.5, 0.5)(view), view.modality) == ["t-v-v--aat"]
    # Low-attentive: all four places go to the best of both kinds.
    assert shown(LowAttentive(0.5, 0.5)(view), view.modality) == ["t-vvv--a-t"]
    assert shown(LowAttentive(0.5, 0.5, together=False)(view), view.modality) == ["t-v-v--aat"]
    assert shown(LowAttentive(0.5)(view), view.modality) == ["t-v-vaaaat"]


def test_ties_keep_the_first_and_every_row_is_its_own() -> None:
    modality = modalities("tvvvvt", "..tvvt", "...ttt")
    view = make_view(modality, scores=torch.full((3, 6), 0.2))
    assert shown(FastV(0.5)(view), modality) == ["tvv--t", "..tv-t", "...ttt"]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.01, 1))
def test_even_distances(marks: list[bool], ratio: float) -> None:
    rows = torch.tensor([marks])
    counts = counts_of(rows, ratio)
    total = sum(marks)
    assert counts.tolist() == [min(total, max(1, round(ratio * total)))]
    kept = spread_evenly(rows, counts)
    assert not (kept & ~rows).any()
    assert kept.sum() == counts
    places = (rows.cumsum(1) - 1)[kept].tolist()
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


def test_uniform_stride() -> None:
    view = make_view(modalities("tvvvvvvaaaat"))
    assert shown(UniformStride(0.5)(view), view.modality) == ["t-v-v-vaaaat"]
    assert shown(UniformStride(1 / 3, 0.5)(view), view.modality) == ["t--v--v-a-at"]
    assert UniformStride(layer=ENTRANCE).layers(8) == {ENTRANCE}


def test_random_follows_seed_prompt_and_position_only() -> None:
    alone = make_view(modalities("t" + "v" * 40 + "t"))
    padded = make_view(modalities("...t" + "v" * 40 + "t", "t" + "v" * 43 + "t"))
    hook = RandomPruning(0.5, seed=3)
    prompt = torch.tensor([17])
    one = hook(replace(alone, fingerprint=prompt))
    two = hook(replace(padded, fingerprint=torch.tensor([17, 99])))
    assert one is not None and two is not None
    assert torch.equal(two[:1, 3:], one)
    torch.manual_seed(1)
    again = hook(replace(alone, fingerprint=prompt))
    assert again is not None and torch.equal(again, one)
    others = [
        RandomPruning(0.5, seed=4)(replace(alone, fingerprint=prompt)),
        hook(replace(alone, fingerprint=prompt + 1)),
        hook(alone),
    ]
    for other in others:
        assert other is not None and other.sum() == one.sum()
        assert not torch.equal(other, one)


def test_random_is_fair() -> None:
    view = make_view(modalities("v" * 50).expand(400, -1))
    kept = RandomPruning(0.3)(replace(view, fingerprint=torch.arange(400)))
    assert kept is not None
    shares = kept.double().mean(dim=0)
    assert (kept.sum(dim=1) == 15).all()
    # Five standard deviations of a mean of 400 draws.
    assert ((shares - 0.3).abs() < 5 * (0.3 * 0.7 / 400) ** 0.5).all()


def test_fingerprints_see_tokens_and_order_and_no_padding() -> None:
    ids = torch.tensor([[0, 0, 5, 6, 7], [9, 4, 5, 6, 7], [0, 0, 5, 7, 6]])
    valid = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]).bool()
    one, other_padding, other_order = fingerprints(ids, valid).tolist()
    assert one == other_padding != other_order
    assert fingerprints(ids[:1, 2:], valid[:1, 2:]).tolist() == [one]
    assert fingerprints(ids[1:2], torch.ones(1, 5).bool()).tolist() != [one]
    # The first two outputs of SplitMix64 that starts from 0.
    states = torch.tensor([0, 0x9E3779B97F4A7C15 - 2**64])
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert [number % 2**64 for number in mix(states).tolist()] == published


def test_places() -> None:
    assert FastV().layers(28) == {2}
    assert FastV(layer=5).layers(28) == {5}
    assert FastV().layers(2) == {1}
    assert LowAttentive().layers(28) == RandomPruning().layers(28) == VTW().layers(28) == {14}
    assert PyramidDrop().layers(32) == {8, 16, 24}
    assert PyramidDrop().layers(28) == {7, 14, 21}
    assert PyramidDrop().layers(3) == {1, 2}
    assert LateRemoval().layers(28) == {23}
    assert LateRemoval().layers(48) == {39}
    assert LateRemoval().layers(2) == {1}


def test_removals_take_all_media_and_nothing_else() -> None:
    modality = modalities("tvivat", "...ttt")
    for hook in (VTW(), LateRemoval()):
        assert hook.may_empty
        assert shown(hook(make_view(modality)), modality) == ["t----t", "...ttt"]


def test_from_config() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    fast = FastV.from_config(config)
    assert (fast.visual_keep_ratio, fast.audio_keep_ratio, fast.layer) == (0.3, 0.2, None)
    for kind in (LowAttentive, RandomPruning, UniformStride, RolloutGuided):
        made = kind.from_config(config)
        assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, 4)
    pyramid = PyramidDrop.from_config(config)
    assert (pyramid.visual_keep_ratio, pyramid.audio_keep_ratio) == (0.3, 0.2)
    assert pyramid.layers(28) == {7, 14, 21}
    assert VTW.from_config(config).layer == 4


WRONG: list[Any] = [
    lambda: FastV(0),
    lambda: FastV(0.5, 1.5),
    lambda: FastV(layer=0),
    lambda: RolloutGuided(layer=ENTRANCE),
    lambda: RolloutGuided(by="rows"),
    lambda: RolloutGuided(alpha=2),
    lambda: UniformStride(layer=-2),
    lambda: VTW(0),
    lambda: LateRemoval(0),
    lambda: LateRemoval(1.0),
    lambda: FastV(layer=6).layers(6),
]


@pytest.mark.parametrize("make", WRONG)
def test_wrong_settings(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_rollout_before_any_attention_is_refused() -> None:
    hook = RolloutGuided()
    hook.layer = 0
    with pytest.raises(HookError, match="rollout at place 0"):
        LayerHookList([hook]).places(4)
