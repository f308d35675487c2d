"""MACER: a budget for each modality, ranked inside it at a shallow layer of its own."""

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.selectors.time_bonus import with_time_bonus
from fastav_plugin.functional.top_k import counts_of, keep_top, spread_evenly
from fastav_plugin.hooks.base import VISUAL, LayerView
from fastav_plugin.hooks.pictures import Pictures
from fastav_plugin.hooks.plannable import PlannableHook, layer_at_depth, shallow_ranking
from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.tokens import Modality


@register_hook
class Macer(PlannableHook):
    """Rank visual and audio tokens apart, each by the scores below a shallow layer of its own.

    Budgets are set first, by the ratios, so that no modality takes from the other. Visual scores
    are scaled to [0, 1] and get a bonus for coverage in time, `time_bonus / (1 + tokens of the
    frame that rank higher)`: the best token of a frame gets all of it, the second half.

    The layers and the bonus are not published; those here are chosen, not measured. Ranking at a
    shallow layer needs a layer at which the last token attends to what it is asked for. On the
    real language model measured (SmolLM2-135M) there was none below the middle: give depths from
    0.5 on for such a model, and measure.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens; None keeps all audio.
        visual_depth: visual tokens are cut on entering layer `round(visual_depth * L)`, at least
            1; in (0, 1).
        audio_depth: the same for audio tokens.
        time_bonus: of a frame's best token, against scores in [0, 1]; at least 0, which leaves the
            bonus out.

    Reference: MACER (arXiv 2608.01665).
    """

    name = "macer"
    needs_scores = True
    config_fields = KEEP_RATIOS

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        visual_depth: float = 0.125,
        audio_depth: float = 0.25,
        time_bonus: float = 0.5,
    ) -> None:
        check_ratio("visual_keep_ratio", visual_keep_ratio, "(0, 1]")
        check_ratio("audio_keep_ratio", audio_keep_ratio, "(0, 1]", optional=True)
        check_ratio("visual_depth", visual_depth, "(0, 1)")
        check_ratio("audio_depth", audio_depth, "(0, 1)")
        if isinstance(time_bonus, bool) or not time_bonus >= 0:
            raise ConfigError(f"`time_bonus` must be at least 0, got {time_bonus!r}.")
        self.visual_keep_ratio = visual_keep_ratio
        self.audio_keep_ratio = audio_keep_ratio
        self.visual_depth = visual_depth
        self.audio_depth = audio_depth
        self.time_bonus = time_bonus

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        depths = [self.visual_depth]
        if self.audio_keep_ratio is not None:
            depths.append(self.audio_depth)
        return frozenset(layer_at_depth(depth, num_layers) for depth in depths)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.scores is not None
        keep = torch.ones_like(view.alive)
        for tokens, counts, bonus in self._budgets(view):
            scores = view.scores
            if bonus:
                scores = with_time_bonus(scores, tokens, Pictures.of(view).number, bonus)
            keep &= ~tokens | keep_top(scores, tokens, counts)
        return keep

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        keep = torch.ones_like(view.alive)
        for tokens, counts, _ in self._budgets(view):
            keep &= ~tokens | spread_evenly(tokens, counts)
        return keep

    @override
    def caution(self, num_layers: int) -> str | None:
        return shallow_ranking(self.name, min(self.layers(num_layers)), num_layers)

    def _budgets(self, view: LayerView) -> list[tuple[Tensor, Tensor, float]]:
        """The tokens cut at this layer (bool [B, T]), how many stay (int64 [B]), their bonus."""
        groups = [(self.visual_depth, view.mask(*VISUAL), self.visual_keep_ratio, self.time_bonus)]
        if self.audio_keep_ratio is not None:
            audio = view.mask(Modality.AUDIO)
            groups.append((self.audio_depth, audio, self.audio_keep_ratio, 0.0))
        return [
            (tokens, counts_of(tokens.sum(dim=1), ratio), bonus)
            for depth, tokens, ratio, bonus in groups
            if layer_at_depth(depth, view.num_layers) == view.layer
        ]
