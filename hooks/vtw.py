"""VTW: withdraw all visual tokens in the middle of the network."""

from torch import Tensor
from typing_extensions import override

from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.plannable import OneLayerHook, early_removal
from fastav_plugin.hooks.registry import register_hook


@register_hook
class VTW(OneLayerHook):
    """Drop all media tokens on entering one layer.

    The authors withdraw image tokens, having no others; here audio goes with them. They find the
    layer by a search: the first where the KL divergence of the output from dense stays below a
    bound on some samples. The config's `global_layer` is the layer.

    Args:
        layer: the layer to enter, the paper's K; None means L // 2.

    Reference: Boosting Multimodal LLMs with Visual Tokens Withdrawal (arXiv 2405.05803).
    """

    name = "vtw"
    may_empty = True

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return ~view.media

    @override
    def caution(self, num_layers: int) -> str | None:
        return early_removal(self.name, min(self.layers(num_layers)), num_layers)
