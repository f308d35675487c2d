"""A small random copy of a text model, of its own class and of every kind of its layers."""

import copy
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn

from fastav_plugin.errors import FastAVError
from fastav_plugin.upstream.attention import implementation, rename
from fastav_plugin.upstream.models import from_config

LAYERS = 4

#: Sizes tried for the copy, smallest first; the last only limits depth, width of the MLP and
#: vocabulary, for families whose sizes depend on each other.
_FEW_HEADS = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
_ALWAYS = {
    "vocab_size": 64,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 16,
    "n_group": 1,
    "topk_group": 1,
}


def tiny_copy(text_model: nn.Module) -> nn.Module:
    """Build the smallest copy that runs.

    Raises:
        FastAVError: none could be built.
    """
    few = _ALWAYS | _FEW_HEADS
    for sizes in ({**few, "head_dim": 16}, few, _ALWAYS):
        try:
            config = _shrunk(text_model.config, sizes)
            tiny: nn.Module = from_config(type(text_model), config, dtype=torch.float32).eval()
            tiny(inputs_embeds=torch.zeros(1, 2, config.hidden_size), use_cache=False)
            return tiny
        except Exception as error:  # the next sizes may do
            reason = f"{type(error).__name__}: {error}"
    raise FastAVError(f"no small copy of its text model could be built ({reason})")


def _shrunk(config: Any, sizes: dict[str, int]) -> Any:
    config = copy.deepcopy(config)
    head_size = head_size_of(config)
    _keep_layers(config)
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    ungrouped = groups == config.num_attention_heads
    for name, value in sizes.items():
        current = getattr(config, name, None)
        if isinstance(current, int) and current > value:
            setattr(config, name, value)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        try:
            setattr(config, name, None)
        except StrictDataclassFieldValidationError:  # some families insist on a number
            setattr(config, name, 0)
    # Latent attention, for one, has no groups and takes none.
    if ungrouped and getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = config.num_attention_heads
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and "mrope_section" in rope and head_size != head_size_of(config):
        half = sum(rope["mrope_section"]) * head_size_of(config) // head_size
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    if "flash" in implementation(config):
        rename(config, "sdpa")
    return config


def _keep_layers(config: Any) -> None:
    """Keep the first layers and the last, and one of each kind that is not among them."""
    depth = config.num_hidden_layers
    if depth > LAYERS:
        kept = [*range(LAYERS - 1), depth - 1]
        kinds = getattr(config, "layer_types", None) or []
        missing = set(kinds) - {kinds[index] for index in kept if kinds}
        for place, kind in enumerate(sorted(missing)):
            kept[LAYERS - 2 - place] = kinds.index(kind)
        for name, value in list(config.to_dict().items()):
            if isinstance(value, list) and len(value) == depth:
                setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = min(depth, LAYERS)


def head_size_of(config: Any) -> int:
    """Size of one attention head."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)
