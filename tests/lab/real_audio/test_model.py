"""The stock Qwen2Audio computes what the training computed, from its three parts."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.lab.pretrained.whisper_base import encoder_config
from fastav_plugin.lab.real_audio.connector import CHANNELS, Connector
from fastav_plugin.lab.real_audio.frames import (
    SAMPLE_RATE,
    FrameEncoder,
    mel_extractor,
    token_count,
)
from fastav_plugin.lab.real_audio.model import Model, assemble
from fastav_plugin.lab.real_audio.prompts import AUDIO, START
from fastav_plugin.upstream.arguments import cache_argument

SAMPLES = SAMPLE_RATE + 5_000


@pytest.fixture(scope="module")
def encoder() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(WhisperEncoder(encoder_config()).state_dict())


@pytest.fixture(scope="module")
def connector(encoder: dict[str, torch.Tensor]) -> Connector:
    torch.manual_seed(1)
    found = Connector(encoder)
    # Larger than at the start of the training, so that a difference shows.
    found.projector.weight.data.mul_(10)
    return found.requires_grad_(False)


@pytest.fixture(scope="module")
def language_model() -> LlamaForCausalLM:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=CHANNELS,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def model(
    language_model: LlamaForCausalLM, encoder: dict[str, torch.Tensor], connector: Connector
) -> Model:
    return assemble(language_model, encoder, connector.state_dict())


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    return torch.randn(SAMPLES, generator=torch.Generator().manual_seed(3)) * 0.1


def stock_inputs(sound: torch.Tensor) -> dict[str, torch.Tensor]:
    features = mel_extractor()(sound.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    count = token_count(len(sound))
    mask = torch.zeros(1, 3000, dtype=torch.long)
    mask[:, : 4 * count] = 1
    ids = torch.tensor([[START, *[AUDIO] * count, 7, 8, 9]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": features.input_features,
        "feature_attention_mask": mask,
    }


@torch.no_grad()
def test_sound_reaches_the_language_model_as_in_training(
    model: Model,
    language_model: LlamaForCausalLM,
    encoder: dict[str, torch.Tensor],
    connector: Connector,
    sound: torch.Tensor,
) -> None:
    inputs = stock_inputs(sound)
    tokens = connector([FrameEncoder(encoder)(sound.numpy())])[0]
    assert tokens.shape == (token_count(SAMPLES), CHANNELS)
    table = language_model.lm_head.weight
    after = inputs["input_ids"][0, 1 + len(tokens) :]
    embeddings = torch.cat([table[[START]], tokens, table[after]])[None]
    expected = language_model(inputs_embeds=embeddings).logits
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-3, atol=1e-3)
    # A sound is no constant: another one has other logits.
    other = stock_inputs(sound.flip(0))
    assert (model(**other).logits - expected).abs().max() > 0.01


@torch.no_grad()
def test_its_sound_is_pruned_without_a_token_map(model: Model, sound: torch.Tensor) -> None:
    inputs = stock_inputs(sound)
    count = token_count(SAMPLES)
    hook = FastAVConfig(
        method="divprune", visual_keep_ratio=0.5, audio_keep_ratio=0.5, min_media_tokens=8
    )
    cache = FastAVCache(hook)
    model.generate(**inputs, **cache_argument(cache), max_new_tokens=2, do_sample=False)
    kept = round(0.5 * count)
    assert abs(cache.report().tokens_per_layer[0] - (kept + 4)) <= 1


@pytest.mark.parametrize("samples", [1, 639, 640, 641, SAMPLE_RATE])
def test_a_second_has_25_tokens(samples: int) -> None:
    assert token_count(samples) == max(1, -(-samples * 25 // SAMPLE_RATE))


def test_mel_is_that_of_transformers(encoder: dict[str, torch.Tensor], sound: torch.Tensor) -> None:
    ours = FrameEncoder(encoder).mel(sound.numpy(), 140)
    theirs = mel_extractor()(sound.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    torch.testing.assert_close(ours, theirs.input_features[0, :, :140], rtol=1e-4, atol=1e-4)
