"""Which override serves which model."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlavaConfig, Qwen2Config

from fastav_plugin import ConfigError, FastAVConfig, Modality, UnsupportedError, register_override
from fastav_plugin.model_overrides import ModelOverride, find_override
from fastav_plugin.model_overrides.generic import GenericOverride
from fastav_plugin.model_overrides.registry import OVERRIDES, override_for_config
from tests.support.small_models import qwen2


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(OVERRIDES)
    yield
    OVERRIDES.clear()
    OVERRIDES.update(before)


def test_registering_makes_a_family_known() -> None:
    @register_override
    class Phi9(ModelOverride):
        model_types = ("qwen2",)
        global_rule = "first 7 tokens"

        def placeholders(self, config: Any) -> dict[int, Modality]:
            return {9: Modality.AUDIO}

    model = qwen2()
    assert isinstance(find_override(model), Phi9)
    assert FastAVConfig.for_model(model).global_rule == "first 7 tokens"
    assert FastAVConfig.for_model(model.config).global_rule == "first 7 tokens"
    assert FastAVConfig.for_model(model, global_rule="all").global_rule == "all"


@pytest.mark.parametrize("wrong", [object, ModelOverride, ModelOverride(), "phi9", None, nn.Linear])
def test_registering_anything_else_is_refused(wrong: Any) -> None:
    before = dict(OVERRIDES)
    with pytest.raises(ConfigError, match="register_override"):
        register_override(wrong)
    assert before == OVERRIDES


def test_a_taken_model_type_is_refused() -> None:
    class Mine(ModelOverride):
        model_types = ("phi9", "llava")

    before = dict(OVERRIDES)
    with pytest.raises(ConfigError, match="'llava' has an override already: LlavaOverride"):
        register_override(Mine)
    assert before == OVERRIDES
    llava = type(OVERRIDES["llava"])
    assert register_override(llava) is llava  # again is fine
    assert type(OVERRIDES["llava"]) is llava


def test_a_model_nobody_registered_is_probed() -> None:
    assert override_for_config(Qwen2Config()) is None
    override = find_override(qwen2())
    assert isinstance(override, GenericOverride)
    assert override.placeholders(Qwen2Config()) == {}


def test_the_probe_leaves_the_users_model_and_the_random_numbers_alone() -> None:
    model = qwen2(num_hidden_layers=5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    find_override(model)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_placeholders_are_found_under_both_spellings() -> None:
    config = LlavaConfig(image_token_index=77)
    override = override_for_config(config)
    assert override is not None
    assert override.placeholders(config) == {77: Modality.IMAGE}


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), nn.Module()])
def test_what_is_no_transformers_model(wrong: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match=type(wrong).__name__):
        find_override(wrong)


def test_listed_families() -> None:
    known = {
        "qwen2_5_omni",
        "qwen2_5_omni_thinker",
        "llava",
        "llava_next",
        "llava_onevision",
        "llava_next_video",
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3_vl",
        "gemma3",
    }
    assert known <= set(OVERRIDES)
    for model_type, override in OVERRIDES.items():
        assert model_type in type(override).model_types
