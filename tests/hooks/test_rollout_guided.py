"""Cuts by the rollout of the prompt, of a fixed and of an adaptive size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastav_plugin import ConfigError, FastAVConfig, HookError, LayerHookList, LayerView
from fastav_plugin.hooks import ENTRANCE, AdaptivePruning, RolloutGuided
from tests.support.views import make_view, modalities, shown


class Given:
    """Stands where a view's rollout stands, with numbers chosen by the test."""

    def __init__(self, row: Tensor, sums: Tensor | None = None) -> None:
        self.row, self.sums = row, sums

    def last_row(self, alpha: float) -> Tensor:
        return self.row

    def column_sums(self, alpha: float) -> Tensor:
        assert self.sums is not None
        return self.sums


def view_of(shares: Tensor, *letters: str) -> LayerView:
    rollout: Any = Given(shares, shares.flip(1))
    return replace(make_view(modalities(*letters)), rollout=rollout)


def test_the_fewest_tokens_that_hold_the_mass() -> None:
    shares = torch.tensor(
        [
            [0.3, 0.4, 0.1, 0.1, 0.05, 0.05],
            [0.5, 0.1, 0.1, 0.1, 0.1, 0.1],
            [0.0, 0.0, 0.0, 0.2, 0.3, 0.5],
        ]
    )
    view = view_of(shares, "tvvaat", "tvvaat", "...ttt")
    # Media hold 0.65: the first row has 0.4 of it, the first two 0.5.
    assert shown(AdaptivePruning(0.6)(view), view.modality)[0] == "tv---t"
    assert shown(AdaptivePruning(0.7)(view), view.modality) == ["tvv--t", "tvva-t", "...ttt"]
    assert shown(AdaptivePruning(1)(view), view.modality) == ["tvvaat", "tvvaat", "...ttt"]
    sums = AdaptivePruning(0.6, by="column_sums")(view)
    assert shown(sums, view.modality)[0] == "t---at"


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0.01, 1))
def test_smallest_and_enough(values: list[float], mass: float) -> None:
    shares = torch.tensor([values])
    keep = AdaptivePruning(mass)(view_of(shares, "v" * len(values)))
    assert keep is not None
    total = shares.double().sum()
    held = shares.double()[keep]
    assert held.sum() >= mass * total - 1e-9
    if len(held) > 1:
        assert held.sum() - held.min() < mass * total + 1e-9
    dry = AdaptivePruning(mass).dry_run(view_of(shares, "v" * len(values)))
    assert dry is not None and keep.sum() <= dry.sum()


def test_settings_of_the_adaptive_cut() -> None:
    assert AdaptivePruning().layers(28) == {14}
    assert AdaptivePruning.from_config(FastAVConfig(global_layer=4)).layers(28) == {4}
    for wrong in ({"mass": 0}, {"mass": 1.1}, {"layer": 0}, {"by": "x"}, {"alpha": -1}):
        with pytest.raises(ConfigError):
            AdaptivePruning(**wrong)


def test_the_highest_rollout_is_kept() -> None:
    view = view_of(torch.tensor([[0.3, 0.4, 0.1, 0.15, 0.02, 0.03]]), "tvvaat")
    assert shown(RolloutGuided(0.5)(view), view.modality) == ["tv-aat"]
    # Visual and audio tokens compete for the sum of their counts.
    assert shown(RolloutGuided(0.5, 0.5)(view), view.modality) == ["tv-a-t"]
    assert shown(RolloutGuided(0.5, by="column_sums")(view), view.modality) == ["t-vaat"]


def test_settings_of_the_fixed_cut() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    made = RolloutGuided.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, 4)
    wrong: list[dict[str, Any]] = [{"layer": ENTRANCE}, {"by": "rows"}, {"alpha": 2}]
    for values in wrong:
        with pytest.raises(ConfigError):
            RolloutGuided(**values)


def test_rollout_before_any_attention_is_refused() -> None:
    hook = RolloutGuided()
    hook.layer = 0
    with pytest.raises(HookError, match="rollout at layer 0"):
        LayerHookList([hook]).places(4)
