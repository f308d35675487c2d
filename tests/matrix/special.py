"""Families that need more than a table row, and what the refused ones need to be built."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import Modality
from tests.families import Family
from tests.family_configs import HIDDEN, MROPE, SIGHT
from tests.family_prompts import Rows, omni_all, plain_text
from tests.matrix.media import NONE, prompt, sound, still
from tests.matrix.shrink import part, shrunk
from tests.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    Piece,
    noise,
    row,
    special,
    tokens,
    type_ids,
    words,
)

#: Families of the hand-written matrix, by model_type.
WRITTEN = {
    "llava": "llava",
    "llava_next": "llava_next",
    "llava_next_video": "llava_next_video",
    "llava_onevision": "llava_onevision",
    "qwen2_5_omni_thinker": "omni_all",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen2_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl",
}


def _phi4(name: str, model_class: str, rule: str) -> Family:
    vision = {"image_token_id": IMAGE, "crop_size": 32, "image_size": 32}
    audio = {
        "audio_token_id": AUDIO,
        "num_blocks": 2,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 32,
        "input_size": 16,
        "nemo_final_size": 2,
    }
    seen = still(
        41,
        2,
        3,
        32,
        32,
        key="image_pixel_values",
        image_sizes=[32, 32],
        image_attention_mask=torch.ones(2, 8, 8).tolist(),
    )

    def heard(seed: int, size: int) -> Piece:
        count = 20 if size else 10
        media = {
            "audio_input_features": noise(seed, 1, 160, 16),
            "audio_embed_sizes": torch.tensor([count]),
            "audio_attention_mask": (torch.arange(160) < 8 * count)[None],
        }
        return tokens(AUDIO, [-1] * count, **media)

    changes = part("vision_config", vision) | part("audio_config", audio)
    return Family(
        name,
        model_class,
        functools.partial(shrunk, "phi4_multimodal", changes),
        prompt(seen, heard),
        rule,
    )


def _molmo2(name: str, model_class: str, rule: str) -> Family:
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "text_hidden_size": HIDDEN,
        "vision_feature_layer": [-1, 0],
    }
    changes = part("adapter_config", sizes) | {
        "image_patch_id": IMAGE,
        "vision_config.num_position_embeddings": 64,
        "text_config.rope_scaling_layers": [0, 1, 2, 3, 4, 5],
        "text_config.additional_vocab_size": 1,
    }

    def pooled(ids: Tensor) -> dict[str, Tensor]:
        kinds = type_ids("mm_token_type_ids")(ids)
        count = int((ids == IMAGE).sum())
        if not count:
            return kinds
        grids = torch.tensor([[4, 4, 0, 0]]).repeat(count // 16, 1)
        return kinds | {
            "image_token_pooling": torch.arange(4 * count).reshape(count, 4),
            "image_grids": grids,
        }

    return Family(
        name,
        model_class,
        functools.partial(shrunk, "molmo2", changes),
        prompt(still(16, 64, 48)),
        rule,
        extra=pooled,
    )


def glm_video(model_type: str, name: str, model_class: str, rule: str) -> Family:
    """Frames stand as image placeholders, apart, between the marks of a video."""

    def clip(seed: int) -> tuple[Piece, ...]:
        media = {
            "pixel_values_videos": noise(seed, 64, 96),
            "video_grid_thw": torch.tensor([[2, 4, 8]]),
        }
        one, two = (Piece([IMAGE] * 8, [0] * 8, inputs, Modality.VIDEO) for inputs in (media, {}))
        return special(97), one, words(seed, 2), two, special(98)

    def rows() -> Rows:
        long = row(words(1, 5), *clip(1), words(2, 4), *clip(2), words(3, 5))
        return long, row(words(4, 6), *clip(3), words(5, 4)), NONE

    config = functools.partial(shrunk, model_type, {"text_config.rope_parameters": MROPE})
    return Family(
        f"{name}_video",
        model_class,
        config,
        rows,
        rule,
        extra=lambda ids: {"mm_token_type_ids": 2 * (ids == IMAGE).long()},
    )


def _qwen3_omni(name: str, model_class: str, rule: str) -> Family:
    """Image, video and sounds."""
    sounds = {
        "num_mel_bins": 16,
        "n_window": 50,
        "n_window_infer": 100,
        "downsample_hidden_size": 8,
        "conv_chunksize": 50,
    }
    marks = {"audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
    changes = part("audio_config", sounds) | SIGHT | marks | {"position_id_per_seconds": 4}
    heard = sound((13, 26), 16, 200, mask=("feature_attention_mask", 200, 100, 200))

    def rows() -> Rows:
        seen = omni_all()[0].pieces[:10]
        marked = [special(AUDIO_START), heard(1, 1), special(AUDIO_END)]
        less = [special(AUDIO_START), heard(2, 0), special(AUDIO_END)]
        return row(*seen, *marked, words(6, 4)), row(words(3, 4), *less, words(2, 4)), NONE

    config = functools.partial(shrunk, "qwen3_omni_moe_thinker", changes)
    return Family(name, model_class, config, rows, rule)


def _text(name: str, model_class: str, rule: str) -> Family:
    return Family(
        name,
        model_class,
        functools.partial(shrunk, "mistral4", {}),
        plain_text,
        {"video": "first 20 tokens", "audio": "first 10 tokens"},
        given_map=True,
    )


SPECIAL: dict[str, Callable[[str, str, str], Family]] = {
    "qwen3_omni_moe_thinker": _qwen3_omni,
    "mistral4": _text,
    "molmo2": _molmo2,
    "phi4_multimodal": _phi4,
}

#: Take videos as well as images, but not in one batch.
GLM = ("glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr")

#: Changes without which a family that is refused could not be built.
REFUSED: dict[str, dict[str, Any]] = {
    "glm5_next": part(
        "text_config",
        {"linear_head_dim": 8, "linear_num_heads": 4},
    ),
    "udop": {"d_model": 32, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2},
    "lfm2_vl": {"text_config.layer_types": ["conv", "full_attention"] * 3},
}
