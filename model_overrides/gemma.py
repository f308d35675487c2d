"""Gemma 3, and Gemma 4 without per-layer embeddings: bidirectional attention between image tokens.

Some of their layers are sliding. Masks come as arguments, one per kind of layer, and are cut.
"""

from typing import Any

from torch import nn
from typing_extensions import override

from fastav_plugin.flops import LayerCost
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.model_overrides.unsupported import PER_LAYER


@register_override
class Gemma3Override(ModelOverride):
    """Sliding layers; masks in which image tokens see each other both ways are cut."""

    model_types = ("gemma3",)


@register_override
class Gemma4Override(ModelOverride):
    """As Gemma 3, without embeddings per layer; heads of full layers may be wider."""

    model_types = ("gemma4", "gemma4_unified")

    @override
    def refusal(self, config: Any) -> str | None:
        if getattr(self.text_config(config), "hidden_size_per_layer_input", None):
            return PER_LAYER
        return super().refusal(config)

    @override
    def check_text_model(self, text_model: nn.Module) -> None:
        """Allow its argument for per-layer inputs: `refusal` refuses the models that use it."""

    @override
    def scores_allowed(self, head: nn.Module) -> bool:
        # Only its text model compares names of attention implementations, and that is not renamed.
        return True

    @override
    def cost(self, config: Any) -> LayerCost:
        """Sizes of the mean layer."""
        text = self.text_config(config)
        layers = [text.per_layer_config[index] for index in range(text.num_hidden_layers)]
        heads = [int(layer.head_dim) for layer in layers]
        experts = int(getattr(text, "top_k_experts", None) or 0)
        width = experts * int(getattr(text, "moe_intermediate_size", None) or 0)
        kept = [int(layer.head_dim) * int(layer.num_key_value_heads) for layer in layers]
        return LayerCost(
            hidden_size=int(text.hidden_size),
            intermediate_size=int(text.intermediate_size) + width,
            kv_size=sum(kept) // len(layers),
            query_size=int(text.num_attention_heads) * sum(heads) // len(layers),
            query_heads=int(text.num_attention_heads),
        )
