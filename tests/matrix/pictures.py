"""Families that take images of whole pixels: what differs from the default, and a medium."""

from __future__ import annotations

from typing import Any

from tests.matrix.media import Medium, clip, still
from tests.matrix.shrink import part
from tests.support.family_configs import HIDDEN, MROPE
from tests.support.prompts import IMAGE

_ROPE = {key: MROPE[key] for key in ("rope_type", "rope_theta")}
_LETTERS = {f"IMGIMG{letter}Z": 80 + number for number, letter in enumerate("ABCDEFGH")}
_VISUAL = {f"<|visual token {number:06d}|>": 80 + number for number in range(8)}
_CODES = {
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
    "embed_dim": 16,
    "latent_channels": 16,
    "num_embeddings": 8,
    "codebook_size": 8,
    "resolution": 8,
    "attn_resolutions": [],
}
_RESAMPLER = {
    "hidden_size": HIDDEN,
    "resampler_n_latents": 16,
    "resampler_depth": 1,
    "resampler_n_heads": 4,
    "resampler_head_dim": 12,
}
_FASTVIT = {"inference_mode": True, "layers": [1] * 5, "embed_dims": [32] * 5}
_PERCEPTION = {
    "embed_dim": 32,
    "img_size": [56, 56],
    "depth": 2,
    "num_heads": 2,
    "global_pool": "map",
    "use_post_transformer_norm": False,
    "init_values": 0.1,
    "ref_feat_shape": [4, 4],
}
_EIGHT_BY_EIGHT = {"vision_config.image_size": 64}
_STEP = {
    "vision_config.image_size": 64,
    "text_config.sliding_window": 12,
    "text_config.layer_types": ["full_attention", "sliding_attention", "sliding_attention"] * 2,
    "text_config.rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
}
_OVIS = {
    "hidden_size": HIDDEN,
    "vision_config.vocab_size": 64,
    "visual_indicator_token_ids": [80, 81, 82, 83, 84],
}
_OCR2 = {
    "vision_config.sam_config.downsample_channels": [64, 32],
    "text_config.mlp_layer_types": ["dense"] + ["sparse"] * 5,
}
_TILE = still(16, 1, 3, 32, 32)

#: model_type: changes of the shrunk configuration, first medium, second medium.
PICTURES: dict[str, tuple[dict[str, Any], Medium] | tuple[dict[str, Any], Medium, Medium]] = {
    "aria": ({"projector_patch_to_query_dict": {64: 8}}, still(8)),
    "aya_vision": ({}, still(16)),
    "chameleon": (
        {"vocabulary_map": {"<image>": IMAGE, **_LETTERS}} | part("vq_config", _CODES),
        still(16, 3, 8, 8),
    ),
    "cohere2_vision": ({}, still(16)),
    "deepseek_ocr2": (_OCR2, still(145)),
    "deepseek_vl": ({}, still(64)),
    "deepseek_vl_hybrid": (
        {"high_res_vision_config.global_attn_indexes": [0, 1]},
        still(64, high_res_pixel_values=(3, 32, 32)),
    ),
    "emu3": (
        {"vocabulary_map": {"<image>": IMAGE, "<|extra_200|>": 89, **_VISUAL}}
        | part("vq_config", _CODES),
        still(20, 3, 8, 8, image_sizes=[8, 8]),
    ),
    "fast_vlm": (
        {"vision_config.model_args": _FASTVIT, "vision_config.hidden_size": 64},
        still(16, 3, 256, 256),
    ),
    "fuyu": ({}, still(16, 16, 48)),
    "gemma3": ({"mm_tokens_per_image": 16}, still(16)),
    "got_ocr2": (_EIGHT_BY_EIGHT, still(16, 3, 64, 64)),
    "granite_docling": (
        {"vision_config.scale_factor": 2},
        still(16, 1, 3, 32, 32, pixel_attention_mask=[True]),
    ),
    "idefics2": (part("perceiver_config", _RESAMPLER), _TILE),
    "idefics3": ({}, _TILE),
    "internvl": ({}, still(16)),
    "janus": ({"vision_config.projection_dim": HIDDEN}, still(64)),
    "lighton_ocr": ({}, still(16, image_sizes=[32, 32])),
    "mistral3": ({}, still(16, image_sizes=[32, 32])),
    "ovis2": (_OVIS, still(64)),
    "perception_lm": (
        {
            "vision_config.architecture": "vit_pe_core_large_patch14_336",
            "vision_config.model_args": _PERCEPTION,
        },
        still(16, 1, 3, 56, 56),
        clip(16, side=56),
    ),
    "pp_chart2table": (_EIGHT_BY_EIGHT, still(16, 3, 64, 64)),
    "qianfan_ocr": ({}, still(16)),
    "shieldgemma2": ({"mm_tokens_per_image": 16}, still(16)),
    "smolvlm": ({}, _TILE),
    "step3p7": (_STEP, still(16, 3, 64, 64)),
    "video_llava": ({}, still(64, key="pixel_values_images"), clip(65)),
    "vipllava": ({"vision_feature_layer": [-2, -1]}, still(64)),
}
