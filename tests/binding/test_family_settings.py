"""Defaults of families: the common ones, and the published ones of the two models of the paper."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.binding import family_settings
from fastav_plugin.binding.family_settings import with_defaults
from fastav_plugin.defaults import DEFAULTS, FastAVDefaults
from fastav_plugin.hooks import fastav
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import GENERIC
from fastav_plugin.model_overrides.video_salmonn2 import VideoSalmonn2Override
from fastav_plugin.model_overrides.videollama2 import VideoLlama2Override


@pytest.mark.parametrize("layers", [2, 7, 28, 30, 48])
def test_the_middle_layer(layers: int) -> None:
    assert DEFAULTS.layer(layers) == layers // 2
    assert FastAVDefaults("all", 0.2, 0.29).layer(100) == 29


def test_common_defaults_fill_what_is_not_given() -> None:
    found = with_defaults(FastAVConfig(), GENERIC, 30)
    assert (found.global_rule, found.fine_drop_ratio, found.global_layer) == ("all", 0.1, None)
    given = FastAVConfig(global_rule="below 750", fine_drop_ratio=0.2)
    assert with_defaults(given, GENERIC, 30) is given
    assert with_defaults(FastAVConfig(fine_drop_ratio=0.0), GENERIC, 30).fine_drop_ratio == 0


@pytest.mark.parametrize("kind", [VideoLlama2Override, VideoSalmonn2Override])
def test_the_papers_models_keep_what_was_published(
    kind: type[ModelOverride], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = with_defaults(FastAVConfig(), kind(), 28)
    assert (found.fine_drop_ratio, found.global_layer) == (0.2, None)
    assert found.global_rule == kind.global_rule != "all"
    # Another common depth leaves theirs where it was.
    later = dataclasses.replace(DEFAULTS, depth=0.7)
    for module in (family_settings, fastav):
        monkeypatch.setattr(module, "DEFAULTS", later)

    def layer(**settings: Any) -> int | None:
        return with_defaults(FastAVConfig(**settings), kind(), 28).global_layer

    assert layer() == layer(method="fastav+late_removal") == 14
    assert layer(global_layer=3) == 3
    assert layer(method="vtw") is layer(method="fastav+vtw") is layer(method="divprune") is None
    assert fastav.GlobalPruning().layers(28) == {19}
    assert min(fastav.FinePruning().layers(28)) == 20
