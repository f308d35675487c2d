"""The full Qwen2.5-Omni: its thinker is pruned, its speech is refused with the remedy."""

import copy
from typing import Any

import pytest
import torch
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach, detach
from tests.support.cache_names import CACHE, passing
from tests.support.families import FAMILIES
from tests.support.oracle import decoder_layers
from tests.support.prompts import SUPPRESSED
from tests.support.small_models import config, snapshot

FAMILY = FAMILIES["omni_interleaved"]
SETTINGS = config(global_rule="below 20", global_layer=2)


def full_model(part: Any = None) -> Any:
    """A Qwen2.5-Omni with small random speech parts around a thinker, or around the family's."""
    part = FAMILY.model("sdpa") if part is None else part
    thinker = part.config
    text = thinker.text_config.to_dict()
    hidden = text["hidden_size"]
    talker = {
        **{name: text[name] for name in ("hidden_size", "num_attention_heads", "rope_parameters")},
        "vocab_size": 99,
        "embedding_size": hidden,
        "head_dim": hidden // text["num_attention_heads"],
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "audio_token_index": thinker.audio_token_index,
        "image_token_index": thinker.image_token_index,
        "video_token_index": thinker.video_token_index,
        "vision_start_token_id": thinker.vision_start_token_id,
        "audio_start_token_id": thinker.audio_start_token_id,
        "tts_text_start_token_id": 1,
        "tts_text_end_token_id": 2,
        "tts_text_pad_token_id": 3,
        "tts_codec_start_token_id": 4,
        "tts_codec_end_token_id": 5,
        "tts_codec_pad_token_id": 6,
        "tts_codec_mask_token_id": 7,
        "position_id_per_seconds": 4,
    }
    speech = {
        "dit_config": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 16,
            "emb_dim": 16,
            "mel_dim": 8,
            "num_embeds": 100,
            "enc_emb_dim": 8,
            "enc_dim": 8,
            "enc_channels": [8, 8, 8, 8, 24],
            "enc_attention_channels": 8,
            "enc_se_channels": 8,
            "enc_res2net_scale": 2,
            "look_ahead_layers": [0],
            "look_backward_layers": [0],
        },
        "bigvgan_config": {"mel_dim": 8, "upsample_initial_channel": 64},
    }
    settings = Qwen2_5OmniConfig(
        thinker_config=thinker.to_dict(), talker_config=talker, token2wav_config=speech
    )
    torch.manual_seed(0)
    model: Any = Qwen2_5OmniForConditionalGeneration(settings)
    model.eval()
    model.thinker.load_state_dict(part.state_dict())
    model.thinker.generation_config.pad_token_id = 0
    model.speaker_map["Chelsie"] = {
        "bos_token": 8,
        "cond": torch.zeros(1, 8),
        "ref_mel": torch.zeros(1, 24, 8),
    }
    return model


@pytest.fixture(scope="module")
def shared() -> Any:
    return full_model()


@pytest.fixture
def model(shared: Any) -> Any:
    return copy.deepcopy(shared)


def inputs() -> dict[str, Any]:
    return FAMILY.batch(FAMILY.single())


def text(model: Any, **settings: Any) -> Any:
    return model.generate(
        **inputs(),
        generation_mode="text",
        thinker_max_new_tokens=4,
        thinker_suppress_tokens=SUPPRESSED,
        **settings,
    )


def speak(model: Any, **settings: Any) -> Any:
    shared = ("input_ids", "attention_mask", "use_audio_in_video")
    given = {k if k in shared else f"thinker_{k}": v for k, v in inputs().items()}
    return model.generate(
        **given,
        thinker_max_new_tokens=4,
        thinker_suppress_tokens=SUPPRESSED,
        talker_max_new_tokens=4,
        talker_do_sample=False,
        talker_eos_token_id=[5],
        token2wav_num_steps=2,
        **settings,
    )


def test_text_is_pruned(model: Any) -> None:
    past = FastAVCache(SETTINGS)
    out = text(model, **passing(past))
    thinker = copy.deepcopy(FAMILY.model("sdpa"))
    expected = FastAVCache(SETTINGS)
    alone = thinker.generate(
        **inputs(), max_new_tokens=4, suppress_tokens=SUPPRESSED, **passing(expected)
    )
    assert torch.equal(out, alone)
    assert past.report().tokens_per_layer == expected.report().tokens_per_layer
    assert past.report().flops_ratio < 1


@pytest.mark.parametrize("keyword", [CACHE, f"thinker_{CACHE}"])
def test_speech_is_refused_before_any_token(model: Any, keyword: str) -> None:
    stock = text(model)
    layers: list[int] = []
    last = decoder_layers(model.thinker)[-1]
    handle = last.register_forward_hook(lambda *_: layers.append(1))
    with pytest.raises(UnsupportedError, match=r"[Ss]peech.*generation_mode='text'"):
        speak(model, **{keyword: FastAVCache(SETTINGS)})
    assert not layers
    handle.remove()
    assert torch.equal(text(model), stock)
    past = FastAVCache(SETTINGS)
    text(model, **passing(past))
    assert past.report().flops_ratio < 1


def test_an_attached_full_model(model: Any) -> None:
    before = snapshot(model)
    stock = text(model)
    expected = text(model, **passing(FastAVCache(SETTINGS)))
    detach(model)
    assert attach(model, SETTINGS) is model
    assert torch.equal(text(model), expected)
    with pytest.raises(UnsupportedError, match="generation_mode='text'"):
        speak(model)
    detach(model)
    assert snapshot(model) == before
    assert torch.equal(text(model), stock)


def test_stock_speech_is_untouched_by_a_binding(model: Any) -> None:
    torch.manual_seed(0)
    words, sound = speak(model)
    text(model, **passing(FastAVCache(SETTINGS)))
    torch.manual_seed(0)
    again, sound_again = speak(model)
    assert torch.equal(words, again)
    assert torch.equal(sound, sound_again)


def test_for_model_takes_the_full_model(model: Any) -> None:
    assert FastAVConfig.for_model(model) == FastAVConfig.for_model(model.thinker)
    assert FastAVConfig.for_model(model.config) == FastAVConfig.for_model(model.thinker.config)
