"""Global cuts by the attention rollout of the prompt itself, of a fixed and of an adaptive size."""

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.top_k import Selector, best_of, keep_top, spread_evenly
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.plannable import OneLayerHook
from fastav_plugin.hooks.ratio_pruning import RatioPruning
from fastav_plugin.hooks.registry import register_hook

#: What a media token may be ranked by.
READINGS = ("last_row", "column_sums")


@register_hook
class RolloutGuided(RatioPruning):
    """Keep, on entering the middle layer, the media tokens with the most attention rollout.

    FastAV takes its positional rule from the rollout of other samples, because the rollout it
    computes needs every attention map; this one does without, so it can use the prompt's own.
    Where audio has a ratio, visual and audio tokens compete with each other.

    Args:
        visual_keep_ratio, audio_keep_ratio: as in RatioPruning.
        layer: the layer to enter; None means L // 2. The rollout is that of all layers below.
        together: as in RatioPruning; None means that they compete.
        by: "last_row", the token's share in the last one, or "column_sums", its share in all.
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
        _check_reading(by, alpha)
        self.by = by
        self.alpha = alpha

    @override
    def selector(self, view: LayerView) -> Selector:
        return best_of(_read_rollout(view, self.by, self.alpha))

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        _read_rollout(view, self.by, self.alpha)
        return super().dry_run(view)


@register_hook
class AdaptivePruning(OneLayerHook):
    """Keep, on entering the middle layer, the fewest media tokens that hold a share of the rollout.

    All media of a batch row compete with each other. A prompt whose answer depends on a few
    tokens keeps few, one that is attended to evenly keeps many; so the number of tokens is known
    only when the prompt is read, and a dry run only bounds it. The config's `global_layer` is the
    layer; composed with FastAV's fine cut it is `method="adaptive+fine_pruning"`.

    Args:
        mass: share of the media tokens' rollout that the kept ones hold at least, in (0, 1].
        layer: the layer to enter; None means L // 2. The rollout is that of all layers below.
        by: "last_row", the token's share in the last one, or "column_sums", its share in all.
        alpha: weight of attention against the residual path, in [0, 1].

    Reference: none; the rollout is that of FastAV (arXiv 2601.13143), section 2.1.
    """

    name = "adaptive"
    needs_rollout = True
    counts_vary = True
    fixed_fields = ("global_layer",)

    def __init__(
        self, mass: float = 0.9, layer: int | None = None, by: str = "last_row", alpha: float = 0.5
    ) -> None:
        super().__init__(layer)
        check_ratio("mass", mass, "(0, 1]")
        _check_reading(by, alpha)
        self.mass = mass
        self.by = by
        self.alpha = alpha

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        media = view.media
        rollout = _read_rollout(view, self.by, self.alpha)
        # float64: a threshold must not be lost in the rounding of a long sum.
        shares = rollout.double().masked_fill(~media, 0)
        best = shares.sort(dim=1, descending=True, stable=True).values
        before = best.cumsum(dim=1) - best
        wanted = self.mass * shares.sum(dim=1, keepdim=True)
        counts = ((before < wanted) & (best > 0)).sum(dim=1)
        return ~media | keep_top(rollout, media, counts)

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        """As many tokens as are needed at most: where all have the same share."""
        _read_rollout(view, self.by, self.alpha)
        media = view.media
        counts = (self.mass * media.sum(dim=1).double()).ceil().long()
        return ~media | spread_evenly(media, torch.minimum(counts, media.sum(dim=1)))


def _check_reading(by: str, alpha: float) -> None:
    if by not in READINGS:
        raise ConfigError(f"`by` must be one of {list(READINGS)}, got {by!r}.")
    check_ratio("alpha", alpha, "[0, 1]")


def _read_rollout(view: LayerView, by: str, alpha: float) -> Tensor:
    """Float32 [B, T], one of `READINGS`."""
    assert view.rollout is not None
    return view.rollout.last_row(alpha) if by == "last_row" else view.rollout.column_sums(alpha)
