"""Families that need more than a table row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import Modality
from tests.matrix.classes import family
from tests.matrix.media import NONE, Medium, grid, prompt, sound, still
from tests.matrix.shrink import part
from tests.support.families import Family
from tests.support.family_configs import HIDDEN, MROPE, SIGHT, hub, text_config, tower
from tests.support.family_prompts import Rows, omni_all, plain_text
from tests.support.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    VIDEO,
    VOCABULARY,
    Extra,
    Piece,
    noise,
    row,
    special,
    tokens,
    type_ids,
    words,
)

GEMMA_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "position_embedding_size": 64,
}


def _phi4(model_type: str) -> tuple[Family, ...]:
    """Its text model calls the towers."""
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
    # Four lines of four tokens and an end, for the crop and for the whole; one between them.
    seen = still(
        *(41, 2, 3, 32, 32),
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
    return (family(model_type, changes, prompt(seen, heard)),)


@dataclass(frozen=True)
class _Coded(Family):
    """Its codebook of sounds is a buffer, zero without a checkpoint: one code for all of them."""

    def model(self, attention: str = "sdpa") -> Any:
        model = super().model(attention)
        codes = model.model.audio_tokenizer.quantizer.codebook.embed
        codes.copy_(noise(5, *codes.shape))
        return model


def _apertus(model_type: str) -> tuple[Family, ...]:
    """Media become token ids past those that its head knows; lines of an image stand apart."""
    eyes = {
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "embed_dim": 16,
        "latent_channels": 16,
        "codebook_size": 16,
    }
    ears = {
        "upsampling_ratios": [2, 2],
        "num_filters": 8,
        "codebook_dim": 32,
        "codebook_size": 16,
    }
    changes = part("vision_config", eyes) | part("audio_config", ears)
    changes |= {
        "text_config.vocab_size": VOCABULARY + 32,
        "text_config.output_vocab_size": VOCABULARY,
        "image_token_offset": VOCABULARY,
        "audio_token_offset": VOCABULARY + 16,
    }

    def seen(seed: int, size: int) -> Piece:
        height = 5 if size else 3
        media = {
            "pixel_values": noise(seed, 1, 3, 10, 12),
            "image_sizes": torch.tensor([[2 * height, 12]]),
        }
        ids = ([IMAGE] * 6 + [97]) * height
        return Piece(ids[:-1], [-1] * (len(ids) - 1), media)

    heard = sound((10, 20), 1, 80, mask=("padding_mask", 80, 40, 80), key="input_values")
    return (_Coded(**vars(family(model_type, changes, prompt(seen, heard)))),)


def _molmo2(model_type: str) -> tuple[Family, ...]:
    """Images or videos in one batch, with one placeholder; tokens pool patches of the batch."""
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

    def pooled(kind: str, sizes: list[int]) -> Extra:
        def extra(ids: Tensor) -> dict[str, Tensor]:
            count = int((ids == IMAGE).sum())
            inputs = type_ids("mm_token_type_ids")(ids)
            if count:
                inputs[f"{kind}_token_pooling"] = torch.arange(4 * count).reshape(count, 4)
                inputs[f"{kind}_grids"] = torch.tensor([sizes]).repeat(count // 16, 1)
            return inputs

        return extra

    def clip(seed: int, size: int) -> Piece:
        return Piece(
            [IMAGE] * 16,
            [0] * 16,
            {"pixel_values_videos": noise(seed, 1, 64, 48)},
            Modality.VIDEO,
        )

    images = prompt(still(16, 64, 48))
    return (
        family(model_type, changes, images, extra=pooled("image", [4, 4, 0, 0])),
        family(
            model_type, changes, prompt(clip), suffix="_video", extra=pooled("video", [1, 4, 4])
        ),
    )


def _gemma4(model_type: str) -> tuple[Family, ...]:
    """The sizes without embeddings per layer; heads of full layers are twice as wide."""
    unified = model_type == "gemma4_unified"
    kind = "Gemma4Unified" if unified else "Gemma4"
    pixels = 3 * 12**2 if unified else 3 * 4**2
    places = torch.stack(torch.meshgrid(*[torch.arange(8)] * 2, indexing="xy"), dim=-1)
    small = {"patch_size": 4, "pooling_kernel_size": 3 if unified else 2}
    eyes = {"mm_embed_dim": 32, "output_proj_dims": 32} if unified else GEMMA_TOWER
    more = {} if unified else {"hidden_size_per_layer_input": 0}

    def config() -> Any:
        text = text_config(
            head_dim=12,
            global_head_dim=24,
            sliding_window=12,
            use_bidirectional_attention="vision",
            layer_types=["sliding_attention", "full_attention"] * 3,
            **more,
        )
        return getattr(hub, f"{kind}Config")(
            text_config=getattr(hub, f"{kind}TextConfig")(**text),
            vision_config=getattr(hub, f"{kind}VisionConfig")(**small, **eyes),
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            audio_token_id=AUDIO,
        )

    rows = prompt(
        still(64 if unified else 16, 64, pixels, image_position_ids=places.reshape(64, 2).tolist())
    )
    made = family(model_type, {}, rows, extra=type_ids("mm_token_type_ids"))
    return (replace(made, config=config),)


def _glm(model_type: str) -> tuple[Family, ...]:
    """Images or videos in one batch; a frame stands as image placeholders, apart from the next."""

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

    def of_video(ids: Tensor) -> dict[str, Tensor]:
        return {"mm_token_type_ids": 2 * (ids == IMAGE).long()}

    changes = {"text_config.rope_parameters": MROPE}
    images = prompt(grid(96))
    return (
        family(model_type, changes, images, extra=type_ids("mm_token_type_ids")),
        family(model_type, changes, rows, suffix="_video", extra=of_video),
    )


def _qwen3_omni(model_type: str) -> tuple[Family, ...]:
    """Image, video and sounds."""
    sounds = {
        "num_mel_bins": 16,
        "n_window": 50,
        "n_window_infer": 100,
        "downsample_hidden_size": 8,
        "conv_chunksize": 50,
    }
    marks = {"audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
    changes: dict[str, Any] = part("audio_config", sounds) | SIGHT | marks
    changes["position_id_per_seconds"] = 4
    heard: Medium = sound((13, 26), 16, 200, mask=("feature_attention_mask", 200, 100, 200))

    def rows() -> Rows:
        seen = omni_all()[0].pieces[:10]
        marked = [special(AUDIO_START), heard(1, 1), special(AUDIO_END)]
        less = [special(AUDIO_START), heard(2, 0), special(AUDIO_END)]
        return row(*seen, *marked, words(6, 4)), row(words(3, 4), *less, words(2, 4)), NONE

    return (family(model_type, changes, rows),)


def _paligemma(model_type: str) -> tuple[Family, ...]:
    """The whole prompt is of kind 0, which sees itself in both directions."""
    changes = {"vision_config.projection_dim": HIDDEN}

    def extra(ids: Tensor) -> dict[str, Tensor]:
        return {"token_type_ids": torch.zeros_like(ids)}

    def second() -> Any:
        """The second version has the text model of Gemma 2, with sliding layers."""
        text = text_config(
            model_type="gemma2", head_dim=12, query_pre_attn_scalar=12, sliding_window=12
        )
        eyes = tower("siglip_vision_model", 32)
        return hub.PaliGemmaConfig(
            text_config=text, vision_config=eyes, image_token_index=IMAGE, projection_dim=HIDDEN
        )

    one = family(model_type, changes, prompt(still(64)), extra=extra)
    return one, replace(one, name=f"{one.name}_2", config=second)


def _text(model_type: str) -> tuple[Family, ...]:
    """No tower and no placeholder: the caller says what is media."""
    rule = {"video": "first 20 tokens", "audio": "first 10 tokens"}
    return (family(model_type, {}, plain_text, rule=rule, given_map=True),)


#: Makers of cases by model_type.
SPECIAL: dict[str, Callable[[str], tuple[Family, ...]]] = {
    "apertus1p5": _apertus,
    "paligemma": _paligemma,
    "gemma4": _gemma4,
    "gemma4_unified": _gemma4,
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v", "glm_ocr", "glmga"), _glm),
    "mistral4": _text,
    "molmo2": _molmo2,
    "phi4_multimodal": _phi4,
    "qwen3_omni_moe_thinker": _qwen3_omni,
}
