"""PyramidDrop: drop half of the visual tokens after each quarter of the network."""

from typing_extensions import override

from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS, ScorePruning
from fastav_plugin.hooks.registry import register_hook


@register_hook
class PyramidDrop(ScorePruning):
    """After each quarter of the layers, keep the share of visual tokens with the highest scores.

    The cuts are made on entering layers L/4, L/2 and 3L/4 (8, 16 and 24 of 32, as published),
    each rounded down; with a ratio of 0.5, one half, a quarter and an eighth are left. Unlike in
    the authors' code, scores are those of the prompt's last token, not of the instruction's, they
    come from the attention that the model computes anyway, as the mean over its heads, counts are
    rounded at each stage from the stage before, and audio takes a ratio of its own.

    Args:
        visual_keep_ratio: share of the image and video tokens kept at each stage, in (0, 1].
        audio_keep_ratio: the same for audio tokens; None keeps all audio.

    Reference: PyramidDrop (arXiv 2410.17247).
    """

    name = "pyramid_drop"
    config_fields = KEEP_RATIOS

    def __init__(
        self, visual_keep_ratio: float = 0.5, audio_keep_ratio: float | None = None
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(num_layers * quarter // 4 for quarter in (1, 2, 3)) - {0}
