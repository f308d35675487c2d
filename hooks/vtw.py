"""VTW: withdraw all visual tokens in the middle of the network."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView, one_layer, register_hook
from fastav_plugin.hooks.knobs import LayerKnob


@register_hook
class VTW(LayerHook):
    """VTW: drop all media rows on entering one layer.

    The authors withdraw image tokens, having no others; here audio goes with them. They find the
    layer by a search: the first where the KL divergence of the output from dense stays below a
    bound on some samples. The config's `global_layer` is the layer.

    Args:
        layer: the layer to enter, the paper's K; None means L // 2.

    Reference: Boosting Multimodal LLMs with Visual Tokens Withdrawal (arXiv 2405.05803).
    """

    name = "vtw"
    may_empty = True
    knobs = (LayerKnob(field="global_layer", rank=4),)

    def __init__(self, layer: int | None = None) -> None:
        if layer is not None and layer < 1:
            raise ConfigError(f"`layer` must be at least 1, got {layer!r}.")
        self.layer = layer

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> VTW:
        return cls(config.global_layer)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return one_layer(self.layer, num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return ~view.media
