"""A tiny checkpoint in the authors' layout, and a tokenizer with ChatML for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from fastav_plugin.model_overrides.videollama2 import (
    VideoLlama2Config,
    VideoLlama2ForConditionalGeneration,
)
from tests.support.family_configs import spread

WORDS = (
    "system user assistant You are a helpful . ? , What is heard seen Which colour has the shape "
    "in this clip sound and picture do they match yes no red green blue"
).split()
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 80

#: The published config.json, with small sizes.
FLAT: dict[str, Any] = {
    "architectures": ["Videollama2Qwen2ForCausalLM"],
    "model_type": "videollama2_qwen2",
    "bos_token_id": 34,
    "eos_token_id": 36,
    "hidden_act": "silu",
    "hidden_size": 48,
    "hidden_size_a": 48,
    "image_aspect_ratio": "pad",
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
    "max_window_layers": 28,
    "mm_audio_tower": "/home/author/checkpoints/audio_tower.bin",
    "mm_hidden_size": 32,
    "mm_hidden_size_a": 24,
    # As seen in a public config.json whose weights are an MLP.
    "mm_projector_a_type": "linear",
    "mm_projector_type": "stc_connector_v35",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-tiny",
    "num_attention_heads": 4,
    "num_frames": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "tokenizer_padding_side": "right",
    "torch_dtype": "float32",
    "use_mm_proj": True,
    "use_sliding_window": False,
    "vocab_size": VOCABULARY,
    # A tower of another size than the published one has to be described.
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    },
}

AUDIO = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "patch_embed_size": 20,
    "conv_pos": 16,
    "conv_pos_groups": 4,
}


def tiny_config(**fields: Any) -> VideoLlama2Config:
    """What the loader should find out about the tiny checkpoint; `fields` are of config.json."""
    sizes = {"audio_config": AUDIO, "mm_projector_a_type": "mlp2x_gelu"}
    config = VideoLlama2Config.from_dict(FLAT | sizes | fields)
    config.connector_depth = 1
    return config  # type: ignore[no-any-return]


def tiny_model(seed: int = 3, **fields: Any) -> VideoLlama2ForConditionalGeneration:
    """A model whose answers depend on every token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlama2ForConditionalGeneration(tiny_config(**fields))
        spread(model)
    nn.Module.eval(model)
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    """Words, line ends and punctuation, each one token."""
    names = ["\n", *WORDS, *SPECIAL]
    vocabulary = {name: number for number, name in enumerate(names)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="."))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" +"), "removed"),
            pre_tokenizers.Split(Regex(r"\n|[.?,]"), "isolated"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )


def their_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors under the published names, with those that nothing uses."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in (
            ("model.language_model.", "model."),
            ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
        ):
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        found[name] = tensor.contiguous()
    table = "model.audio_tower.encoder.layers.{}.self_attn.relative_attention_bias.weight"
    for layer in range(1, AUDIO["num_hidden_layers"]):
        found[table.format(layer)] = found[table.format(0)].clone()
    found["model.audio_tower.predictor.weight"] = torch.ones(5, AUDIO["hidden_size"])
    found["model.audio_tower.predictor.bias"] = torch.ones(5)
    # The tower is stored whole, with the layer after the one that is used, and with its head.
    vision = "model.vision_tower.vision_tower.vision_model."
    for name in [name for name in found if name.startswith(f"{vision}encoder.layers.1.")]:
        found[name.replace("layers.1.", "layers.2.")] = torch.zeros_like(found[name])
    found[f"{vision}head.probe"] = torch.zeros(1, 1, 32)
    return found


def write_official(
    folder: Path,
    model: nn.Module | None = None,
    edit: Callable[[dict[str, Tensor]], Any] = lambda tensors: None,
    **fields: Any,
) -> Path:
    """Write the published layout: two shards, two torch files, tokenizer and settings.

    Args:
        folder: to write to, made if missing.
        model: whose weights; None for the tiny one.
        edit: changes the tensors before they are written.
        fields: changes of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = their_tensors(tiny_model() if model is None else model)
    edit(tensors)
    separate = {
        "audio_tower.bin": "model.audio_tower.",
        "mm_projector_a.bin": "model.mm_projector_a.",
    }
    for file, prefix in separate.items():
        part = {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        torch.save(part, folder / file)
    names = sorted(tensors)
    half = math.ceil(len(names) / 2)
    places: dict[str, str] = {}
    for number, part_names in enumerate((names[:half], names[half:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part_names}, folder / file)
        places |= dict.fromkeys(part_names, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(FLAT | fields))
    settings = {"bos_token_id": 34, "eos_token_id": [36, 34], "pad_token_id": 34}
    settings |= {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    tokenizer().save_pretrained(folder)
    return folder
