"""What given fields are laid over: the file in the folder that a model came from, or none."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
)

from fastav_plugin import ConfigError, FastAVConfig, LayerHookList, attach, detach
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.hooks import DivPrune
from fastav_plugin.settings.base import DEFAULTS, BaseSettings
from tests.support.families import FAMILIES
from tests.support.hub import NOWHERE, cached
from tests.support.small_models import qwen2

SETTINGS = FastAVConfig(method="divprune", visual_keep_ratio=0.25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with settings."""
    qwen2().save_pretrained(tmp_path / "model")
    SETTINGS.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_file_in_the_folder_that_a_model_came_from(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    for each in (model, copy.deepcopy(model), model.config, folder, str(folder)):
        found = BaseSettings.of_model(each)
        assert found.source == str(folder / CONFIG_NAME) == found.place
        assert FastAVConfig.from_dict(found.fields) == SETTINGS
    assert BaseSettings.of_model(AutoConfig.from_pretrained(folder)).fields


def test_a_folder_without_the_file_and_a_model_of_no_folder(folder: Path) -> None:
    (folder / CONFIG_NAME).unlink()
    for each in (AutoModelForCausalLM.from_pretrained(folder), folder, qwen2(), qwen2().config):
        assert BaseSettings.of_model(each) == BaseSettings(DEFAULTS)


def test_no_name_is_not_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert BaseSettings.of_model(qwen2()) == BaseSettings()


def test_a_file_that_cannot_be_read_is_no_default(folder: Path) -> None:
    (folder / CONFIG_NAME).write_text('{"method": "divprun"}')
    with pytest.raises(ConfigError, match=r"fastav_config\.json.*Did you mean 'divprune'"):
        BaseSettings.of_model(folder)


def test_the_name_of_a_hub_repository(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is asked, and nothing else: no hub answers here."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    model: Any = qwen2()
    model.name_or_path = "org/name"
    assert BaseSettings.of_model(model) == BaseSettings()
    cached(tmp_path / "cache", "org/name", {CONFIG_NAME: folder / CONFIG_NAME})
    for each in (model, "org/name"):
        found = BaseSettings.of_model(each)
        assert found.source == "fastav_config.json of org/name"
        assert FastAVConfig.from_dict(found.fields) == SETTINGS


def test_another_method_keeps_the_ratios_and_leaves_out_the_hooks() -> None:
    base = BaseSettings("here", {"method": "fastav", "visual_keep_ratio": 0.3, "hooks": [1]})
    assert base.laid_under({})["hooks"] == [1]
    assert base.laid_under({"method": "fastav"})["hooks"] == [1]
    other = base.laid_under({"method": "divprune", "audio_keep_ratio": 0.5})
    assert other == {"method": "divprune", "visual_keep_ratio": 0.3, "audio_keep_ratio": 0.5}


def test_hooks_in_a_file(tmp_path: Path) -> None:
    FastAVConfig(hooks=LayerHookList([DivPrune(0.25)])).save_pretrained(tmp_path)
    base = BaseSettings.of_file(tmp_path)
    assert FastAVConfig.from_dict(base.laid_under({})).hooks
    assert FastAVConfig.from_dict(base.laid_under({"method": "divprune"})).hooks is None


@pytest.mark.filterwarnings("ignore")
def test_the_outermost_part_says_where_a_model_came_from(tmp_path: Path) -> None:
    """Of the whole Qwen2.5-Omni its thinker is pruned, which was made from another folder once."""
    thinker: Any = FAMILIES["omni_all"].model("sdpa").config.to_dict()
    thinker["_name_or_path"] = str(tmp_path / "older")
    SETTINGS.save_pretrained(tmp_path / "older")
    whole: Any = Qwen2_5OmniForConditionalGeneration(
        Qwen2_5OmniConfig(thinker_config=thinker, enable_audio_output=False)
    )
    attach(whole, FastAVConfig(method="divprune", visual_keep_ratio=0.75))
    whole.save_pretrained(tmp_path / "whole")
    detach(whole)
    torch.save({}, tmp_path / "whole" / "spk_dict.pt")
    kind: Any = Qwen2_5OmniForConditionalGeneration
    again = kind.from_pretrained(tmp_path / "whole")
    found = BaseSettings.of_model(again)
    assert found.source == str(tmp_path / "whole" / CONFIG_NAME)
    assert FastAVConfig.from_dict(found.fields).visual_keep_ratio == 0.75
