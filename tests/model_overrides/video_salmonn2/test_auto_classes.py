"""Auto classes on a published 2+, whose config.json bears the name of its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from fastav_plugin import ConfigError, FastAVConfig, UnsupportedError, register_models
from fastav_plugin.model_overrides import video_salmonn2
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder

NAME = "video_salmonn2_plus"
HEAD: Any = video_salmonn2.VideoSalmonn2PlusForConditionalGeneration
auto_config: Any = AutoConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = write_folder(tmp_path / "published", NAME, tiny.build(NAME))
    tiny.tokenizer().save_pretrained(found)
    register_models()
    return found


def test_they_read_the_published_folder_with_its_sound(folder: Path) -> None:
    assert type(auto_config.from_pretrained(folder)) is video_salmonn2.VideoSalmonn2PlusConfig
    expected = tiny.build(NAME).state_dict()
    for kind in (AutoModelForMultimodalLM, AutoModelForCausalLM):
        auto: Any = kind
        model = auto.from_pretrained(folder)
        assert type(model) is HEAD
        found = model.state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    processors: Any = AutoProcessor
    assert type(processors.from_pretrained(folder)) is video_salmonn2.VideoSalmonn2PlusProcessor


def test_qwen_stays_what_it_was(folder: Path, tmp_path: Path) -> None:
    given = Qwen2_5_VLConfig(text_config=tiny.plus_config().text_config.to_dict())
    given.save_pretrained(tmp_path / "qwen")
    read, unused = auto_config.from_pretrained(
        tmp_path / "qwen", return_unused_kwargs=True, image_token_id=7, other=1
    )
    assert (type(read), read.image_token_id, unused) == (Qwen2_5_VLConfig, 7, {"other": 1})
    made = auto_config.for_model("qwen2_5_vl", image_token_id=8)
    assert (type(made), made.image_token_id) == (Qwen2_5_VLConfig, 8)
    auto: Any = AutoModelForMultimodalLM
    with torch.device("meta"):
        assert type(auto.from_config(read)) is Qwen2_5_VLForConditionalGeneration


def test_code_beside_a_qwen_counts_where_it_is_trusted(folder: Path, tmp_path: Path) -> None:
    """As without us: what is registered from outside of transformers would go first."""
    qwen = tmp_path / "own_code"
    qwen.mkdir()
    stated = {"model_type": "qwen2_5_vl", "auto_map": {"AutoConfig": "absent.OtherConfig"}}
    (qwen / "config.json").write_text(json.dumps(stated))
    assert type(auto_config.from_pretrained(qwen)) is Qwen2_5_VLConfig
    with pytest.raises(OSError, match=r"absent\.py"):
        auto_config.from_pretrained(qwen, trust_remote_code=True)


def test_one_taken_for_its_base_is_not_pruned(folder: Path) -> None:
    """By its class, transformers goes by the name in config.json, and leaves the sound out."""
    with torch.device("meta"):
        deaf = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder))
    with pytest.raises(UnsupportedError, match="takes no audio.*VideoSalmonn2PlusFor"):
        FastAVConfig.for_model(deaf)


def test_settings_given_late_are_checked_too(folder: Path) -> None:
    config: Any = video_salmonn2.VideoSalmonn2PlusConfig
    auto: Any = AutoModelForMultimodalLM
    for kind in (HEAD, auto, config, auto_config):
        with pytest.raises(ConfigError, match="`positions` must be 'trained' or 'reference'"):
            kind.from_pretrained(folder, positions="mine")
    assert HEAD.from_pretrained(folder, positions="reference").config.positions == "reference"


def test_placeholders_of_the_7b_given_late(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "first", "video_salmonn2", tiny.build("video_salmonn2"))
    head: Any = video_salmonn2.VideoSalmonn2ForConditionalGeneration
    with pytest.raises(ConfigError, match="must lie below `vocab_size`"):
        head.from_pretrained(folder, video_token_id=9999)
