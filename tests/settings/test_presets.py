"""Presets suit the media that a model takes, its depth, and what can be read of it."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from fastav_plugin import ConfigError, FastAVConfig, attach, detach
from fastav_plugin.config import PresetName
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.settings.presets import AUDIO, IMAGE, KINDS, PRESETS, UNMEASURED, VIDEO
from tests.support.families import FAMILIES
from tests.support.family_copies import family, run
from tests.support.small_models import qwen2


def test_the_trades() -> None:
    assert list(PRESETS) == ["safe", "balanced", "fast", "conversation"]
    shares = []
    for name in get_args(PresetName):
        found = FastAVConfig.for_model(qwen2(num_hidden_layers=10), preset=name)
        said = found.describe()
        assert f"Preset '{name}': " in said and "SmolLM2-135M-Instruct" in said
        assert f"(`fastav eval --preset {name} --questions 300`): {PRESETS[name].figures}" in said
        assert "Caution" not in said
        shares.append(found.visual_keep_ratio if "divprune" in found.method else 1.0)
        places = method_hooks(found).places(10)
        assert max(places) == 9 if "fastav" in found.method else places == {8}
        if "fastav" in found.method:
            assert (found.global_layer, found.fine_drop_ratio) == (6, 0.2)
    assert shares == [1.0, 0.5, 0.25, 1.0]


def test_conversations_lose_media_in_the_last_layers_alone() -> None:
    """So a second question finds in the cache what the first did not ask for."""
    found = PRESETS["conversation"].fields(AUDIO, 30)
    assert found == {"method": "late_removal"}
    assert method_hooks(FastAVConfig.from_dict(found)).places(30) == {25}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [2, 8, 28])
@pytest.mark.parametrize("scores", [True, False])
def test_fields_of_each_kind(name: str, kind: str, layers: int, scores: bool) -> None:
    found = FastAVConfig.from_dict(PRESETS[name].fields(kind, layers, scores))
    hooks = method_hooks(found)
    assert max(hooks.places(layers)) < layers
    assert scores or not any(hook.needs_scores for hook in hooks)
    given = PRESETS[name].fields(kind, layers, scores)
    keeps = name in ("balanced", "fast")
    assert ("visual_keep_ratio" in given) == (keeps and kind != AUDIO)
    assert ("audio_keep_ratio" in given) == (keeps and kind not in (VIDEO, IMAGE))
    assert given["method"].endswith("late_removal")


@pytest.mark.parametrize(
    ("model", "kind"),
    [("omni_all", "audio-visual"), ("llava", "image"), ("llava_next_video", "video")],
)
def test_kinds_of_models(model: str, kind: str) -> None:
    found = FastAVConfig.for_model(FAMILIES[model].model("sdpa"), preset="balanced")
    assert found.source == f"the preset 'balanced' for {kind} models"
    assert UNMEASURED.get(kind, "") in found.describe()


def test_given_fields_go_first_and_were_not_measured() -> None:
    model = qwen2(num_hidden_layers=10)
    found = FastAVConfig.for_model(model, preset="fast", visual_keep_ratio=0.4)
    assert (found.visual_keep_ratio, found.audio_keep_ratio) == (0.4, 0.25)
    assert found.describe().endswith("It was not measured with visual_keep_ratio as given here.")
    same = FastAVConfig.for_model(model, "fastav+divprune+late_removal", preset="fast")
    assert same.describe() == FastAVConfig.for_model(model, preset="fast").describe()


def test_what_a_target_changed_was_not_measured() -> None:
    model = qwen2(num_hidden_layers=10)
    budget: dict[str, Any] = {"target_flops": 0.4, "prompt": {"text": 20, "video": 400}}
    found = FastAVConfig.for_model(model, preset="fast", **budget)
    assert found.source == "the preset 'fast' for audio-visual models, with target_flops given"
    changed = "fine_drop_ratio and visual_keep_ratio as chosen for target_flops. Chosen: "
    assert f"It was not measured with {changed}" in found.describe()
    both = FastAVConfig.for_model(model, preset="fast", min_media_tokens=1, **budget)
    assert f"with min_media_tokens as given here, nor with {changed}" in both.describe()


def test_type_checkers_know_the_names() -> None:
    assert get_args(PresetName) == tuple(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_runs_with_each(name: PresetName) -> None:
    model, inputs = family("omni_all")
    config = FastAVConfig.for_model(model, preset=name, min_media_tokens=1)
    reports: list[Any] = []
    attach(model, config, on_report=reports.append)
    run(model, inputs)
    detach(model)
    assert reports[0].reason is None
    assert reports[0].flops_ratio < 1


def test_they_are_frozen_and_unknown_ones_are_refused() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["safe"].keep = 1.0  # type: ignore[misc]
    with pytest.raises(
        ConfigError, match="Unknown preset 'quick'. Known: safe, balanced, fast, conv"
    ):
        FastAVConfig.for_model(qwen2(), preset="quick")  # type: ignore[arg-type]
