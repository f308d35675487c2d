"""A global cut by the attention rollout of the very prompt at hand."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, best_of

#: What a media row may be ranked by.
READINGS = ("last_row", "column_sums")


def check_reading(by: str, alpha: float) -> None:
    """Raise a ConfigError for a reading that is unknown or a weight outside [0, 1]."""
    if by not in READINGS:
        raise ConfigError(f"`by` must be one of {list(READINGS)}, got {by!r}.")
    if not 0 <= alpha <= 1:
        raise ConfigError(f"`alpha` must lie in [0, 1], got {alpha!r}.")


def read_rollout(view: LayerView, by: str, alpha: float) -> Tensor:
    """Float32 [B, T]: what the last row is made of, or what each row gives to all."""
    assert view.rollout is not None
    return view.rollout.last_row(alpha) if by == "last_row" else view.rollout.column_sums(alpha)


@register_hook
class RolloutGuided(RatioPruning):
    """Keep, on entering the middle layer, the media rows with the most attention rollout.

    FastAV takes its positional rule from the rollout of other samples, because the rollout it
    computes needs every attention map; without one it can be had for the prompt itself. Where
    audio has a ratio, image, video and audio rows compete with each other.

    Args:
        visual_keep_ratio: share of image and video rows kept, in (0, 1].
        audio_keep_ratio: the same for audio rows; None keeps all audio.
        layer: the layer to enter; None means L // 2. The rollout is that of all layers below.
        together: let both kinds compete for the sum of their counts; None means they do.
        by: "last_row", what the last row is made of, or "column_sums", what a row gives to all.
        alpha: weight of attention against the residual path, in [0, 1].

    Reference: FastAV (arXiv 2601.13143), section 2.1, has the rollout; ranking by it is ours.
    """

    name = "rollout_guided"
    needs_rollout = True
    competes = True

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        together: bool | None = None,
        by: str = "last_row",
        alpha: float = 0.5,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio, layer, together)
        check_reading(by, alpha)
        self.by = by
        self.alpha = alpha

    @override
    def choose(self, view: LayerView) -> Choice:
        return best_of(read_rollout(view, self.by, self.alpha))
