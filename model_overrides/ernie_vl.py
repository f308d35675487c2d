"""Ernie 4.5 VL: each layer takes the kind of every token, as media go to separate experts."""

from fastav_plugin.model_overrides.qwen_vl import QwenVLOverride
from fastav_plugin.model_overrides.registry import register_override


@register_override
class ErnieVLOverride(QwenVLOverride):
    """Placeholders and frames as in Qwen-VL; the kinds of the tokens are cut with them."""

    model_types = ("ernie4_5_vl_moe",)
    row_arguments = ("moe_mm_token_type_ids",)
