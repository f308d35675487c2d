"""One rule: what is given, a preset or a file, the model's own file, the family's defaults."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, UnsupportedError
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.settings.base import DEFAULTS
from tests.support.small_models import generate, prompt, qwen2

SETTINGS = {"method": "divprune", "visual_keep_ratio": 0.25, "min_media_tokens": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    qwen2().save_pretrained(tmp_path / "model")
    FastAVConfig.from_dict(SETTINGS).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_order(folder: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    own = FastAVConfig.for_model(model)
    assert (own.method, own.visual_keep_ratio, own.min_media_tokens) == ("divprune", 0.25, 5)
    assert own.source == str(folder / CONFIG_NAME)
    assert own == FastAVConfig.for_model(folder) == FastAVConfig.for_model(str(folder))

    given = FastAVConfig.for_model(model, visual_keep_ratio=0.3)
    assert (given.method, given.visual_keep_ratio, given.min_media_tokens) == ("divprune", 0.3, 5)
    assert given.source == f"{own.source}, with visual_keep_ratio given"
    method = FastAVConfig.for_model(model, "fastav", global_layer=3)
    assert (method.method, method.min_media_tokens, method.global_layer) == ("fastav", 5, 3)
    assert method.source.endswith("with method and global_layer given")

    other = tmp_path / "other"
    FastAVConfig(method="fastav", global_layer=1).save_pretrained(other)
    for place in (other, str(other), other / CONFIG_NAME):
        found = FastAVConfig.for_model(model, config=place)
        assert (found.method, found.visual_keep_ratio, found.global_layer) == ("fastav", 0.5, 1)
        assert found.source == str(other / CONFIG_NAME)

    preset = FastAVConfig.for_model(model, preset="fast", audio_keep_ratio=None)
    assert preset.source == "the preset 'fast' for audio-visual models, with audio_keep_ratio given"
    assert (preset.min_media_tokens, preset.audio_keep_ratio) == (64, None)
    with pytest.raises(ConfigError, match="Give one of them"):
        FastAVConfig.for_model(model, preset="fast", config=other)

    (folder / CONFIG_NAME).unlink()
    default = FastAVConfig.for_model(model)
    assert (default.method, default.source) == ("fastav", DEFAULTS)
    assert (default.global_rule, default.fine_drop_ratio, default.global_layer) == (
        "all",
        0.1,
        None,
    )


def test_a_file_that_does_not_suit_the_model_is_named(folder: Path) -> None:
    FastAVConfig(global_layer=9).save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"must lie in \[1, 3\]") as caught:
        FastAVConfig.for_model(folder)
    assert f"These settings come from {folder / CONFIG_NAME}." in str(caught.value)
    FastAVConfig(global_layer=2).save_pretrained(folder)
    with pytest.raises(ConfigError) as caught:
        FastAVConfig.for_model(folder, global_layer=9)
    assert CONFIG_NAME not in str(caught.value), "the file is not at fault"


def test_a_target_changes_what_the_file_says_but_not_what_is_given(folder: Path) -> None:
    budget: dict[str, Any] = {"target_flops": 0.7, "prompt": {"text": 20, "video": 200}}
    found = FastAVConfig.for_model(folder, **budget)
    assert found.visual_keep_ratio > 0.25
    assert "Chosen:" in found.describe()
    assert found.source == f"{folder / CONFIG_NAME}, with target_flops given"
    with pytest.raises(ConfigError):
        FastAVConfig.for_model(folder, visual_keep_ratio=0.9, **budget)


def test_what_is_no_model() -> None:
    with pytest.raises(ConfigError, match=r"takes a model, its configuration.*'model'"):
        FastAVConfig.for_model()  # type: ignore[call-arg]
    with pytest.raises(UnsupportedError, match="its folder or its hub id, got int"):
        FastAVConfig.for_model(3)
    with pytest.raises(ConfigError, match=r"'\./missing' does not exist"):
        FastAVConfig.for_model("./missing")
    with pytest.raises(ConfigError, match="Unknown preset 'save'. Did you mean 'safe'"):
        FastAVConfig.for_model(qwen2(), preset="save")  # type: ignore[arg-type]


def test_signatures_name_every_field() -> None:
    own = {field.name: field.type for field in fields(FastAVConfig)}
    made = inspect.signature(FastAVConfig).parameters
    assert list(made) == list(own)
    taken = inspect.signature(FastAVConfig.for_model).parameters
    assert [name for name in taken if name in own] == list(own)
    assert {name: taken[name].annotation for name in own if name != "method"} == {
        name: kind for name, kind in own.items() if name != "method"
    }
    with pytest.raises(ConfigError, match="Unknown setting 'methd'.*Known: method, config, "):
        FastAVConfig.for_model(qwen2(), methd="none")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="Unknown setting 'visual_keep'.*'visual_keep_ratio'"):
        FastAVConfig.for_model(qwen2(), visual_keep=0.5)  # type: ignore[call-arg]


def test_a_cache_without_a_config_takes_the_models_own(folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    cache: Any = FastAVCache()
    generate(model, prompt(), cache, new=1)
    assert cache.config == FastAVConfig.for_model(model)
    assert cache.config.source == str(folder / CONFIG_NAME)
    given: Any = FastAVCache(FastAVConfig())
    generate(model, prompt(), given, new=1)
    assert given.config == FastAVConfig(global_rule="all", fine_drop_ratio=0.1)
