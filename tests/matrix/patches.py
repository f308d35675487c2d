"""Families that take images and videos as grids of patches."""

from __future__ import annotations

from typing import Any

from tests.matrix.media import Medium, grid
from tests.matrix.shrink import part
from tests.support.family_configs import HIDDEN, MROPE

_SECTIONS = {"text_config.rope_parameters": MROPE}
_COMPASS = {"full_attention": MROPE, "sliding_attention": MROPE}
_HUNYUAN = {
    "max_vit_seq_len": 64,
    "max_image_size": 32,
    "out_hidden_size": HIDDEN,
    "text_hidden_size": HIDDEN,
}
#: Patches of two frames of 4 x 4 pixels, and of one.
_PAIR, _ONE, _SQUARE = (96,), (48,), (3, 4, 4)

#: model_type: changes of the shrunk configuration, first medium, second medium.
PATCHES: dict[str, tuple[dict[str, Any], Medium] | tuple[dict[str, Any], Medium, Medium]] = {
    "cohere_compass": (
        {"text_config.rope_parameters": _COMPASS},
        grid(*_PAIR),
        grid(*_PAIR, times=1),
    ),
    "cosmos3_edge": ({}, grid(*_ONE), grid(*_ONE, times=1)),
    "cosmos3_omni": ({}, grid(*_PAIR), grid(*_PAIR, times=1)),
    "ernie4_5_vl_moe": (_SECTIONS, grid(*_ONE), grid(*_ONE, times=2, joined=2)),
    "exaone4_5": ({}, grid(*_PAIR), grid(*_PAIR, times=2)),
    "hunyuan_vl": (
        _SECTIONS | part("vision_config", _HUNYUAN) | {"text_config.head_dim": 12},
        grid(*_ONE, line_ends=True),
    ),
    "hyperclovax_vision_v2": ({}, grid(*_PAIR), grid(*_PAIR, times=2)),
    "kimi_k25": (
        part("vision_config", {"pos_emb_height": 8, "pos_emb_width": 8}),
        grid(*_SQUARE),
        grid(*_SQUARE, times=1),
    ),
    "minimax_m3_vl": ({"merged_hidden_size": 4 * HIDDEN}, grid(*_PAIR), grid(*_PAIR, times=2)),
    "muse_glimmer": ({"out_hidden_size": 128}, grid(*_PAIR), grid(*_PAIR, times=2)),
    "muse_spark": ({"out_hidden_size": 128}, grid(*_PAIR), grid(*_PAIR, times=2)),
    "paddleocr_vl": (_SECTIONS, grid(*_SQUARE)),
    "qwen3_vl_moe": ({}, grid(*_PAIR), grid(*_PAIR, times=1)),
    "video_llama_3": (
        {},
        grid(*_ONE, image_merge_sizes=2),
        grid(*_ONE, times=2, video_merge_sizes=2),
    ),
}
