"""Default configurations made tiny: the same rules of size for every family."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError

from tests.support.family_configs import HIDDEN, LAYERS, MROPE, hub, text_config
from tests.support.prompts import AUDIO, IMAGE, PAD, VIDEO, VISION_END, VISION_START

#: Sizes of a decoder beyond those every decoder has; only names a configuration knows are set.
_DECODER = text_config() | {
    "head_dim": 12,
    "ffn_dim": 64,
    "query_pre_attn_scalar": 12,
    "sliding_window": 12,
    "moe_intermediate_size": 16,
    "moe_hidden_size": 32,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_attention_groups": 2,
    "num_sliding_attention_heads": 4,
    "share_expert_dim": 16,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 99,
}

#: Set even where the default says nothing.
_SPECIAL = ("pad_token_id", "num_experts_per_tok")

#: Sizes of towers and projectors.
_TOWER = {
    "hidden_size": 32,
    "embed_dim": 32,
    "d_model": 32,
    "intermediate_size": 32,
    "encoder_ffn_dim": 32,
    "mlp_dim": 32,
    "projector_hidden_size": 32,
    "projection_hidden_size": 32,
    "alignment_intermediate_size": 32,
    "num_hidden_layers": 2,
    "encoder_layers": 2,
    "num_layers": 2,
    "depth": 2,
    "num_attention_heads": 2,
    "encoder_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_heads": 2,
    "image_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
    "fullatt_block_indexes": [0],
    "window_size": 16,
    "out_hidden_size": HIDDEN,
    "output_dim": HIDDEN,
    "num_mel_bins": 16,
    "encoder_hidden_size": 32,
    "max_source_positions": 80,
    "vision_use_head": False,
    "head_dim": 16,
}

#: Sizes that stand beside the parts of a configuration.
_PROJECTORS = {
    "projector_hidden_size": 32,
    "projection_hidden_size": 32,
    "alignment_intermediate_size": 32,
    "image_size": 32,
    "patch_size": 4,
}

#: Ids of placeholders, by any of the names families give them.
_IDS = {
    f"{name}_{suffix}": value
    for suffix in ("token_id", "token_index")
    for name, value in {
        "image": IMAGE,
        "video": VIDEO,
        "audio": AUDIO,
        "vision_start": VISION_START,
        "vision_end": VISION_END,
        "image_start": VISION_START,
        "image_end": VISION_END,
        "video_start": 97,
        "video_end": 98,
        "boi": VISION_START,
        "eoi": VISION_END,
    }.items()
}


def shrunk(model_type: str, changes: dict[str, Any]) -> Any:
    """A family's default configuration, tiny.

    Args:
        model_type: of the family.
        changes: further values by path, such as {"vision_config.patch_size": 8}.
    """
    config = hub.AutoConfig.for_model(model_type)
    text = config.get_text_config(decoder=True)
    for inner in parts(config):
        if inner is not text:
            set_known(inner, _TOWER)
    shorten(text)
    set_known(config, _IDS, always=True)
    if config is not text:
        set_known(config, _PROJECTORS)
    for path, value in changes.items():
        *way, name = path.split(".")
        setattr(functools.reduce(getattr, way, config), name, value)
    return config


def part(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Changes of one part of a configuration."""
    return {f"{name}.{key}": value for key, value in values.items()}


def parts(config: Any) -> Iterator[Any]:
    """A configuration and those inside it."""
    for name in config.sub_configs:
        inner = getattr(config, name, None)
        if inner is not None:
            yield inner
            yield from parts(inner)


def set_known(config: Any, sizes: dict[str, Any], *, always: bool = False) -> None:
    """Set the values that a configuration has a name for, in the form it has them."""
    known = config.to_dict().keys() | config.attribute_map.keys()
    for name in known & sizes.keys():
        value, current = sizes[name], getattr(config, name)
        if current is None and not always and name not in _SPECIAL:
            continue
        if isinstance(current, (list, tuple)) and isinstance(value, int):
            value = [value] * len(current)
        try:
            setattr(config, name, value)
        except StrictDataclassFieldValidationError:  # a special token that must be a number
            setattr(config, name, PAD)


def shorten(text: Any) -> None:
    """Sizes of the decoder, and one entry per layer for every list by layer."""
    depth = text.num_hidden_layers
    lists = {
        name: value
        for name, value in text.to_dict().items()
        if isinstance(value, list) and len(value) == depth
    }
    kinds = getattr(text, "layer_types", None) or lists.get("mlp_layer_types") or []
    kept = list(range(min(depth, LAYERS)))
    missing = [k for k in dict.fromkeys(kinds) if k not in [kinds[i] for i in kept]]
    for offset, kind in enumerate(missing):
        kept[len(kept) - len(missing) + offset] = kinds.index(kind)
    whole_head = getattr(text, "head_dim", None) == getattr(text, "qk_head_dim", 0)
    set_known(text, _DECODER)
    text.num_hidden_layers = len(kept)
    for name, value in lists.items():
        setattr(text, name, [value[index] for index in kept])
    if hasattr(text, "qk_rope_head_dim"):
        text.num_key_value_heads = text.num_attention_heads
        text.qk_head_dim = text.qk_rope_head_dim + text.qk_nope_head_dim
        text.head_dim = text.qk_head_dim if whole_head else text.qk_rope_head_dim
    rope = getattr(text, "rope_parameters", None)
    if isinstance(rope, dict) and "mrope_section" in rope:
        rope["mrope_section"] = MROPE["mrope_section"]
