"""Configurations of the tiny models, and weights that make them attentive."""

from __future__ import annotations

import math
from typing import Any

import torch
import transformers
from torch import nn

from tests.support.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    PAD,
    VIDEO,
    VISION_END,
    VISION_START,
    VOCABULARY,
)

HIDDEN = 48
LAYERS = 6
#: Sliding window of Gemma 3, shorter than its prompts.
WINDOW = 12

#: Configuration classes declare their arguments too loosely and too strictly for mypy.
hub: Any = transformers


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Weights large enough that attention is peaked and every dropped token is missed."""
    for name, weight in sorted(model.named_parameters()):
        if "norm" in name and weight.dim() == 1:
            continue
        if "embed_tokens" in name:
            nn.init.normal_(weight, std=0.3)
        elif weight.dim() >= 2:
            nn.init.normal_(weight, std=1.5 / math.sqrt(weight[0].numel()))
        else:
            nn.init.normal_(weight, std=0.1)


def text_config(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    } | changes


MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
SIGHT = {"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END}
PATCHES = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_heads": 2}
WINDOWED = PATCHES | {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "window_size": 16,
    "out_hidden_size": HIDDEN,
    "fullatt_block_indexes": [0],
}
_PLACEHOLDERS = {"image_token_id": IMAGE, "video_token_id": VIDEO}
_INDEXES = {"image_token_index": IMAGE, "video_token_index": VIDEO}


def omni_config() -> Any:
    return hub.Qwen2_5OmniThinkerConfig(
        text_config=text_config(rope_parameters=MROPE),
        vision_config=WINDOWED,
        audio_config={
            "num_mel_bins": 8,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "n_window": 8,
            "output_dim": HIDDEN,
        },
        audio_token_index=AUDIO,
        audio_start_token_id=AUDIO_START,
        audio_end_token_id=AUDIO_END,
        position_id_per_seconds=4,
        **_INDEXES,
        **SIGHT,
    )


def tower(kind: str, side: int = 16) -> dict[str, Any]:
    sizes = {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 4,
    }
    return sizes | ({"vision_use_head": False} if kind.startswith("siglip") else {})


def llava_config(kind: str, **changes: Any) -> Any:
    text = text_config(model_type="qwen2" if kind == "LlavaOnevision" else "llama")
    eyes = "siglip_vision_model" if kind == "LlavaOnevision" else "clip_vision_model"
    config = getattr(hub, f"{kind}Config")
    return config(text_config=text, vision_config=tower(eyes), image_token_index=IMAGE, **changes)


PINPOINTS = {"image_grid_pinpoints": [[16, 32], [32, 16]]}


def qwen_config(kind: str, vision: dict[str, Any], **text: Any) -> Any:
    config = getattr(hub, f"{kind}Config")
    return config(
        text_config=text_config(rope_parameters=MROPE, **text),
        vision_config=vision,
        **_PLACEHOLDERS,
        **SIGHT,
    )


def gemma_config() -> Any:
    return hub.Gemma3Config(
        text_config=text_config(
            head_dim=12,
            query_pre_attn_scalar=12,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        ),
        vision_config=tower("siglip_vision_model", side=32),
        mm_tokens_per_image=16,
        image_token_index=IMAGE,
        boi_token_index=VISION_START,
        eoi_token_index=VISION_END,
    )
