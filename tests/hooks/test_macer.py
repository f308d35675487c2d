"""MACER: budgets, layers of their own, and the bonus for moments."""

import re

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import Macer
from tests.support.views import make_view, modalities, shown

PROMPT = "tvvvvvvaaaat"
SCORES = torch.tensor([[0.1, 0.3, 0.25, 0.2, 0.02, 0.01, 0.04, 0.5, 0.1, 0.2, 0.3, 0.1]])
FRAMES = [[-1, 0, 0, 0, 1, 1, 1, -1, -1, -1, -1, -1]]


def test_each_modality_at_its_layer() -> None:
    hook = Macer(0.5, 0.5, time_bonus=0)
    assert hook.layers(28) == {4, 7}
    assert Macer(0.5).layers(28) == {4}
    found = []
    for layer in (4, 7):
        view = make_view(modalities(PROMPT), scores=SCORES, layer=layer, num_layers=28)
        found += shown(hook(view), view.modality)
        dry = hook.dry_run(view)
        kept = hook(view)
        assert dry is not None and kept is not None and dry.sum() == kept.sum()
    assert found == ["tvvv---aaaat", "tvvvvvva--at"]


def test_both_at_one_layer() -> None:
    hook = Macer(0.5, 0.5, visual_depth=0.5, audio_depth=0.5, time_bonus=0)
    assert hook.layers(28) == {14}
    view = make_view(modalities(PROMPT), scores=SCORES, layer=14, num_layers=28)
    assert shown(hook(view), view.modality) == ["tvvv---a--at"]


def test_the_bonus_keeps_moments() -> None:
    kept = {}
    for bonus in (0, 1, 10):
        view = make_view(modalities(PROMPT), scores=SCORES, frame=FRAMES, layer=4, num_layers=28)
        kept[bonus] = shown(Macer(0.5, time_bonus=bonus)(view), view.modality)
    assert kept == {0: ["tvvv---aaaat"], 1: ["tvv---vaaaat"], 10: ["tvv---vaaaat"]}
    view = make_view(modalities(PROMPT), scores=SCORES, frame=FRAMES, layer=4, num_layers=28)
    assert shown(Macer(0.67, time_bonus=10)(view), view.modality) == ["tvv-v-vaaaat"]


def test_settings_and_caution() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=9)
    made = Macer.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio) == (0.3, 0.2)
    said = made.caution(28)
    assert said is not None and re.search("'macer' ranks media.*entering layer 4 of 28", said)
    assert Macer(0.3, 0.2, visual_depth=0.5, audio_depth=0.6).caution(28) is None
    for name, value in (
        ("visual_depth", 0),
        ("audio_depth", 1),
        ("time_bonus", -0.5),
        ("visual_keep_ratio", 0),
        ("audio_keep_ratio", 2),
    ):
        with pytest.raises(ConfigError, match=f"`{name}`.*{value}"):
            Macer(**{name: value})
