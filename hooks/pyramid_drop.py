"""PyramidDrop: drop half of the visual tokens after each quarter of the network."""

from __future__ import annotations

from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, best_of


@register_hook
class PyramidDrop(RatioPruning):
    """PyramidDrop: after each quarter of the layers, keep a share of the visual rows.

    The rows kept are those that the prompt's last token attended to most in the layer just left.
    The cuts are made on entering layers L/4, L/2 and 3L/4 (8, 16 and 24 of 32, as published),
    each rounded down; with a ratio of 0.5, one half, a quarter and an eighth are left. Unlike in
    the authors' code, the token is not that of the instruction before the chat template's end,
    counts are rounded at each stage from the stage before, audio takes a ratio of its own, and
    scores come from the attention the model computes anyway, mean over its heads.

    Args:
        visual_keep_ratio: share of the image and video rows kept at each stage, in (0, 1].
        audio_keep_ratio: the same for audio rows; None keeps all audio.

    Reference: PyramidDrop (arXiv 2410.17247).
    """

    name = "pyramid_drop"
    needs_scores = True
    knobs = KEEP_KNOBS

    def __init__(
        self, visual_keep_ratio: float = 0.5, audio_keep_ratio: float | None = None
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> PyramidDrop:
        return cls(config.visual_keep_ratio, config.audio_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(num_layers * quarter // 4 for quarter in (1, 2, 3)) - {0}

    @override
    def choose(self, view: LayerView) -> Choice:
        assert view.scores is not None
        return best_of(view.scores)
