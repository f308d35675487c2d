"""The full Qwen3-Omni: text is pruned through its thinker, speech is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach, detach
from tests.matrix.listed import cases
from tests.matrix.shrink import shorten
from tests.support.cache_names import passing
from tests.support.cases import config_of
from tests.support.families import build
from tests.support.family_configs import hub
from tests.support.prompts import SUPPRESSED

FAMILY = cases("qwen3_omni_moe_thinker")[0]


def full_model() -> Any:
    """The thinker of the matrix; talker and voice have no weights, for neither may be reached."""
    config = hub.AutoConfig.for_model("qwen3_omni_moe")
    config.thinker_config = FAMILY.config()
    talker = config.talker_config
    shorten(talker.text_config)
    talker.text_config.shared_expert_intermediate_size = 16
    shorten(talker.code_predictor_config)
    talker.thinker_hidden_size = talker.text_config.hidden_size
    talker.spatial_merge_size = 2
    talker.speaker_id = {"ethan": 3}
    with torch.device("meta"):
        model = hub.Qwen3OmniMoeForConditionalGeneration._from_config(config).eval()
    model.thinker = build(FAMILY.name)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return full_model()


def settings() -> FastAVConfig:
    return config_of(FAMILY.name, "fastav+divprune")


def say(model: Any, **more: Any) -> Any:
    return model.generate(
        **FAMILY.batch(FAMILY.single()),
        thinker_max_new_tokens=4,
        thinker_eos_token_id=None,
        suppress_tokens=SUPPRESSED,
        do_sample=False,
        **more,
    )


def test_text_is_pruned_as_the_thinker_alone(model: Any) -> None:
    past, expected = FastAVCache(settings()), FastAVCache(settings())
    words = say(model, return_audio=False, **passing(past))
    alone = model.thinker.generate(
        **FAMILY.batch(FAMILY.single()),
        max_new_tokens=4,
        suppress_tokens=SUPPRESSED,
        do_sample=False,
        **passing(expected),
    )
    detach(model)
    assert torch.equal(words, alone)
    assert past.report().tokens_per_layer == expected.report().tokens_per_layer
    assert past.report().flops_ratio < 1
    attach(model, settings())
    assert torch.equal(say(model, return_audio=False), words)
    detach(model)


def test_speech_is_refused(model: Any) -> None:
    with pytest.raises(UnsupportedError, match="generation_mode='text'"):
        say(model, **passing(FastAVCache(settings())))
    detach(model)
    attach(model, settings())
    with pytest.raises(UnsupportedError, match="generation_mode='text'"):
        say(model)
    detach(model)
