"""Families without an override of their own: served by the generic one, after its probe."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests import family_prompts as prompts
from tests.families import KNOWN, Family
from tests.family_configs import HIDDEN, MROPE, PATCHES, SIGHT, hub, text_config, tower
from tests.family_prompts import Rows
from tests.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    VIDEO,
    VISION_END,
    VISION_START,
    Piece,
    Row,
    noise,
    row,
    special,
    tokens,
    type_ids,
    words,
)

_NONE = Row((words(5, 9),))
_PLACEHOLDERS = {"image_token_id": IMAGE, "video_token_id": VIDEO}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DEEP = PATCHES | {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 32,
    "out_hidden_size": HIDDEN,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
_PIXTRAL = tower("pixtral", 32) | {"head_dim": 16}
_INTERNVL = tower("internvl_vision") | {"image_size": [32, 32], "patch_size": [4, 4]}


def _images(**extra: torch.Tensor) -> Rows:
    def image(seed: int) -> Piece:
        return tokens(IMAGE, [-1] * 16, pixel_values=noise(seed, 1, 3, 32, 32), **extra)

    long = row(words(1, 5), image(1), words(2, 4), image(2), words(3, 5))
    return long, row(words(4, 6), image(3), words(5, 4)), _NONE


def _glm_images() -> Rows:
    def image(seed: int, height: int) -> tuple[Piece, ...]:
        return (
            special(VISION_START),
            prompts.picture(seed, height, 8),
            special(VISION_END),
        )

    long = row(words(1, 3), *image(1, 8), words(2, 5), *image(2, 8), words(3, 4))
    return long, row(words(3, 4), *image(3, 4), words(4, 5)), _NONE


def _llama_3_images() -> Rows:
    def image(seed: int, height: int) -> Piece:
        return tokens(
            IMAGE,
            [-1] * (2 * height),
            pixel_values=noise(seed, 8 * height, 48),
            image_grid_thw=torch.tensor([[1, height, 8]]),
            image_merge_sizes=torch.tensor([2]),
        )

    long = row(words(1, 3), image(1, 8), words(2, 5), image(2, 8), words(3, 4))
    return long, row(words(3, 4), image(3, 4), words(4, 5)), _NONE


def _sounds() -> Rows:
    def sound(seed: int, count: int) -> Piece:
        mask = (torch.arange(160) < 4 * count).long()[None]
        features = noise(seed, 1, 8, 160)
        return tokens(AUDIO, [-1] * count, input_features=features, feature_attention_mask=mask)

    long = row(words(1, 4), sound(1, 30), words(2, 5))
    return long, row(words(3, 4), sound(2, 14), words(4, 3)), _NONE


def _heard_and_seen() -> Rows:
    def sound(seed: int, hundreds: int) -> tuple[Piece, ...]:
        mask = (torch.arange(200) < 100 * hundreds).long()[None]
        heard = tokens(
            AUDIO,
            [-1] * (13 * hundreds),
            input_features=noise(seed, 1, 16, 200),
            feature_attention_mask=mask,
        )
        return (special(AUDIO_START), heard, special(AUDIO_END))

    seen = prompts.omni_all()[0].pieces[:10]
    return row(*seen, *sound(1, 2), words(6, 4)), row(words(3, 4), *sound(2, 1), words(2, 4)), _NONE


def _mistral3_config() -> Any:
    return hub.Mistral3Config(
        text_config=text_config(model_type="mistral", sliding_window=None),
        vision_config=_PIXTRAL,
        image_token_index=IMAGE,
        vision_feature_layer=-1,
    )


def _aya_config() -> Any:
    return hub.AyaVisionConfig(
        text_config=text_config(model_type="cohere2", sliding_window=16, logit_scale=1.0),
        vision_config=tower("siglip_vision_model", 32),
        image_token_index=IMAGE,
        downsample_factor=2,
        adapter_layer_norm_eps=1e-6,
        vision_feature_layer=-1,
    )


def _internvl_config() -> Any:
    return hub.InternVLConfig(
        text_config=text_config(model_type="qwen2"),
        vision_config=_INTERNVL,
        image_token_id=IMAGE,
    )


def _glm_config() -> Any:
    vision = _DEEP | {"depth": 1, "image_size": 32}
    vision = {key: vision[key] for key in vision if not key.startswith(("deep", "num_position"))}
    return hub.Glm4vConfig(
        text_config=text_config(rope_parameters=MROPE | {"partial_rotary_factor": 1.0}),
        vision_config=vision,
        image_start_token_id=VISION_START,
        image_end_token_id=VISION_END,
        video_start_token_id=97,
        video_end_token_id=98,
        **_PLACEHOLDERS,
    )


def _llama_3_config() -> Any:
    return hub.VideoLlama3Config(
        text_config=text_config(model_type="qwen2"),
        vision_config=tower("video_llama_3_vision"),
        **_PLACEHOLDERS,
    )


def _qwen2_audio_config() -> Any:
    encoder = {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 8,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "d_model": 16,
        "max_source_positions": 80,
    }
    return hub.Qwen2AudioConfig(
        text_config=text_config(model_type="qwen2"), audio_config=encoder, audio_token_index=AUDIO
    )


def _moe_config(kind: str, **changes: Any) -> Any:
    config = getattr(hub, f"{kind}Config")
    return config(
        text_config=text_config(head_dim=12, rope_parameters=MROPE, **_EXPERTS),
        vision_config=_DEEP,
        **_PLACEHOLDERS,
        **SIGHT,
        **changes,
    )


_SOUND_CONFIG = {
    "num_mel_bins": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 16,
    "n_window": 50,
    "n_window_infer": 100,
    "output_dim": HIDDEN,
    "downsample_hidden_size": 8,
    "conv_chunksize": 50,
}

_LISTED = [
    Family(
        "mistral3",
        "Mistral3ForConditionalGeneration",
        _mistral3_config,
        functools.partial(_images, image_sizes=torch.tensor([[32, 32]])),
        "below 26",
    ),
    Family(
        "aya_vision", "AyaVisionForConditionalGeneration", _aya_config, _images, "first 20 tokens"
    ),
    Family("internvl", "InternVLForConditionalGeneration", _internvl_config, _images, "below 28"),
    Family(
        "glm4v",
        "Glm4vForConditionalGeneration",
        _glm_config,
        _glm_images,
        "first 20 tokens",
        extra=type_ids("mm_token_type_ids"),
    ),
    Family(
        "video_llama_3",
        "VideoLlama3ForConditionalGeneration",
        _llama_3_config,
        _llama_3_images,
        "below 24",
    ),
    Family(
        "qwen2_audio",
        "Qwen2AudioForConditionalGeneration",
        _qwen2_audio_config,
        _sounds,
        "first 15 tokens",
    ),
    Family(
        "qwen3_vl_moe",
        "Qwen3VLMoeForConditionalGeneration",
        functools.partial(_moe_config, "Qwen3VLMoe"),
        prompts.qwen3_vl,
        "below 50",
        extra=type_ids("mm_token_type_ids"),
    ),
    Family(
        "qwen3_omni",
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        functools.partial(
            _moe_config,
            "Qwen3OmniMoeThinker",
            audio_config=_SOUND_CONFIG,
            audio_token_id=AUDIO,
            audio_start_token_id=AUDIO_START,
            audio_end_token_id=AUDIO_END,
            position_id_per_seconds=4,
        ),
        _heard_and_seen,
        {"video": "all", "audio": "first 10 tokens"},
    ),
]

#: Text models that a caller's TokenMap points into: model_type and what its config needs.
TEXT_MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 20},
    "qwen3": {"head_dim": 12},
    "qwen3_moe": _EXPERTS | {"head_dim": 12},
    "mixtral": {"num_local_experts": 4},
    "gemma": {"head_dim": 12},
    "gemma2": {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 20},
    "phi3": {"sliding_window": 20},
    "cohere2": {"sliding_window": 20, "logit_scale": 1.0},
    "glm4": {"head_dim": 12},
    "granite": {},
    "olmo2": {},
    "starcoder2": {},
    "exaone4": {"sliding_window": 20, "sliding_window_pattern": 2},
    "helium": {"head_dim": 12},
}


def _text_family(kind: str, changes: dict[str, Any]) -> Family:
    config = functools.partial(hub.AutoConfig.for_model, kind, **(text_config() | changes))
    return Family(
        f"{kind}_text",
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind],
        config,
        prompts.plain_text,
        {"video": "first 20 tokens", "audio": "first 10 tokens"},
        given_map=True,
    )


_LISTED += [_text_family(kind, changes) for kind, changes in TEXT_MODELS.items()]

OTHERS = {family.name: family for family in _LISTED}
KNOWN.update(OTHERS)
