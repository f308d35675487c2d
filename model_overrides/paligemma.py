"""PaliGemma: bidirectional attention over the prompt, by a mask that comes as argument."""

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import cache_of


@register_override
class PaliGemmaOverride(ModelOverride):
    """Image placeholders. Its processor's `token_type_ids` say where the prompt ends."""

    model_types = ("paligemma",)
    first_position = 1

    @override
    def sees_both_ways(self, text: Any) -> bool:
        return False

    @override
    def check_request(self, head: nn.Module, inputs: dict[str, Any]) -> None:
        if inputs.get("token_type_ids") is None:
            raise UnsupportedError(
                "PaliGemma makes its mask from `token_type_ids`, which this request lacks. Pass "
                "what its processor returns."
            )
        if inputs.get("logits_to_keep", 0) > 1:
            raise UnsupportedError(
                "PaliGemma's prompt attends to drafted tokens, so it cannot be pruned with drafts. "
                "Leave the assistant or prompt_lookup_num_tokens out."
            )

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        past = cache_of(inputs)
        if past is not None and past.get_seq_length() > 0:
            raise UnsupportedError(
                "PaliGemma's `token_type_ids` describe one prompt only, so a later turn cannot be "
                "pruned. Use a new FastAVCache for each prompt."
            )
        return super().token_map(config, input_ids, attention_mask, inputs)
