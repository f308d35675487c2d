"""OmniPack: importance and coverage before the first layer, then relevant diversity inside."""

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_integer, check_ratio
from fastav_plugin.functional.cosines import min_max
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.functional.selectors.density_peaks import density_peaks
from fastav_plugin.functional.selectors.importance import (
    change_in_time,
    cross_modal_relevance,
    distance_to_mean,
)
from fastav_plugin.functional.top_k import counts_of, spread_evenly
from fastav_plugin.hooks.base import VISUAL, LayerView
from fastav_plugin.hooks.feature_pruning import (
    FeaturePruning,
    Picker,
    each_row,
    question_tokens,
)
from fastav_plugin.hooks.pictures import Pictures
from fastav_plugin.hooks.plannable import Count, OneLayerHook, layer_at_depth
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.tokens import Modality

#: Where the cut inside the network is made: layer 18 of 28, as published.
DEPTH = 0.64


@register_hook
class OmniPackEntrance(FeaturePruning):
    """OmniPack, before layer 0: the most important tokens, and others that cover what is left.

    Of the K tokens that a modality keeps, `round(share * K)` are those with the highest sum of
    cues, each scaled to [0, 1]. For video: how much a patch differs from the same patch of the
    next frame, and from the mean of its frame. For audio: how much a token differs from the next
    one. A picture, which has no time, has the second cue alone; a clip whose frames are unknown is
    compared token by token in time, like audio, and with its mean. The other K are density peaks
    among the tokens left: distance `1 - cosine` plus 0.20 times that of places in time, line and
    column, with 7 neighbours.

    The authors add the attention of the encoders as a cue, which a LayerView does not show, and
    may merge what is dropped into what is kept, for 0.4 points at most: both are left out. Not
    published, and chosen here: cues have equal weights, the last frame is compared with the one
    before it, and places are scaled to [0, 1] along each axis, with Euclidean distances divided by
    the square root of the number of axes.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart; None keeps all audio.
        visual_importance: share of the visual tokens kept that importance chooses, in [0, 1].
        audio_importance: the same for audio tokens.
        columns: patches of a line, in pictures and frames that are grids; None where it varies.

    Reference: OmniPack (arXiv 2608.03812), its form that only masks.
    """

    name = "omnipack_entrance"

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        visual_importance: float = 0.25,
        audio_importance: float = 0.35,
        columns: int | None = None,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)
        check_ratio("visual_importance", visual_importance, "[0, 1]")
        check_ratio("audio_importance", audio_importance, "[0, 1]")
        check_integer("columns", columns, minimum=1, optional=True)
        self.columns = columns
        self.visual_importance = visual_importance
        self.audio_importance = audio_importance

    @override
    def picker(self, view: LayerView) -> Picker:
        pictures = Pictures.of(view, self.columns)
        columns = self.columns or 1

        def pick(sample: int, index: Tensor, count: int) -> Tensor:
            features = view.hidden_states[sample, index]
            if int(view.modality[sample, index[0]]) == int(Modality.AUDIO):
                position = view.positions[sample, index]
                cues = _change(features, torch.arange(len(index), device=index.device))
                return _joined(features, cues, position[:, None], count, self.audio_importance)
            cues, places = _visual_cues(view, pictures, sample, index, columns)
            return _joined(features, cues, places, count, self.visual_importance)

        return pick

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, of which density peaks are made."""
        return candidates * candidates * width

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        """Those of the candidates that importance leaves, of each modality that loses something."""
        spent = torch.zeros_like(view.start)
        shares = (self.visual_importance, self.audio_importance)
        for (tokens, ratio), share in zip(self.groups(view), shares, strict=False):
            if ratio < 1:
                total, kept = tokens.sum(dim=1), (tokens & keep).sum(dim=1)
                # float64 and half to even, as Python's floats round.
                others = total - (share * kept.double()).round().long()
                macs = self.selection_macs(others, kept, width)
                spent = spent + torch.where(kept < total, macs, 0)
        return spent


def _change(features: Tensor, time: Tensor, cell: Tensor | None = None) -> Tensor:
    """The cue of change in time, scaled to [0, 1]."""
    return min_max(change_in_time(features, time, torch.zeros_like(time) if cell is None else cell))


def _visual_cues(
    view: LayerView, pictures: Pictures, sample: int, index: Tensor, columns: int
) -> tuple[Tensor, Tensor]:
    """Of the visual candidates of one batch row the sum of cues [n], and places [n, 3]."""
    features = view.hidden_states[sample, index]
    frame, number = view.frame[sample, index], pictures.number[sample, index]
    cell, grid = pictures.cell[sample, index], pictures.lines[sample, index] > 0
    cues = min_max(distance_to_mean(features, number - number.min()))
    video = view.modality[sample, index] == int(Modality.VIDEO)
    framed, unframed = video & (frame >= 0), video & (frame < 0)
    if bool(framed.any()):
        cues[framed] += _change(features[framed], frame[framed], cell[framed])
    if bool(unframed.any()):
        order = torch.arange(len(index), device=index.device)
        # A gap between two clips: no token of one is compared with one of the other.
        cues[unframed] += _change(features[unframed], (order + number)[unframed])
    line = torch.where(grid, cell // columns, 0)
    column = torch.where(grid, cell % columns, cell)
    return cues, torch.stack([number, line, column], dim=1)


def _joined(features: Tensor, cues: Tensor, places: Tensor, count: int, share: float) -> Tensor:
    """The most important candidates, and density peaks among the others: int64 [count]."""
    important = cues.argsort(descending=True, stable=True)[: round(share * count)]
    left = torch.ones_like(cues, dtype=torch.bool)
    left[important] = False
    others = left.nonzero().squeeze(1)
    peaks = density_peaks(features[others], places[others], count - len(important))
    return torch.cat([important, others[peaks]])


@register_hook
class OmniPackDiversity(OneLayerHook):
    """OmniPack, inside the network: keep half of the media left by diversity among the relevant.

    The cut is made once, on entering layer `round(0.64 L)`. It is DivPrune's max-min choice over
    all media of a batch row together, on the hidden states of that layer, where a token's distance
    to what is picked is multiplied by 1 plus its relevance, scaled to [0, 1]: to the question,
    which is the text after the last media token, to the other modality, and to its like. Not
    published, and chosen here: the first pick is the one whose weighted distance to its nearest
    other is largest.

    Args:
        keep_ratio: share of the media tokens left that are kept, in (0, 1]. The config does not
            change it.
        layer: the layer to enter; None means `round(0.64 * L)`.

    Reference: OmniPack (arXiv 2608.03812).
    """

    name = "omnipack_diversity"
    config_fields = {}  # noqa: RUF012

    def __init__(self, keep_ratio: float = 0.5, layer: int | None = None) -> None:
        super().__init__(layer)
        check_ratio("keep_ratio", keep_ratio, "(0, 1]")
        self.keep_ratio = keep_ratio

    @override
    def default_layer(self, num_layers: int) -> int:
        return layer_at_depth(DEPTH, num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        asked, visual = question_tokens(view), view.mask(*VISUAL)

        def pick(sample: int, index: Tensor, count: int) -> Tensor:
            states = view.hidden_states[sample]
            features = states[index]
            relevance = cross_modal_relevance(
                features, states[asked[sample]], visual[sample, index]
            )
            return max_min_diversity(features, count, weights=1 + min_max(relevance))

        return ~view.media | each_row(pick)(view.media, self._counts(view))

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        return ~view.media | spread_evenly(view.media, self._counts(view))

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, and each pick's distances to all; relevance is left out."""
        return candidates * candidates * width + kept * candidates

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        """`selection_macs`, and the cosines to the question and to the means of the modalities."""
        total, kept = view.media.sum(dim=1), (view.media & keep).sum(dim=1)
        visual, asked = view.mask(*VISUAL).sum(dim=1), question_tokens(view).sum(dim=1)
        compared = torch.where(asked > 0, asked + 1, 0)
        compared = compared + torch.where((visual > 0) & (visual < total), 2, 0)
        macs = self.selection_macs(total, kept, width) + total * compared * width
        return torch.where(kept < total, macs, 0)

    def _counts(self, view: LayerView) -> Tensor:
        return counts_of(view.media.sum(dim=1), self.keep_ratio)
