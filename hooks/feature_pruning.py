"""FeaturePruning: what methods that choose by hidden states have in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.functional.top_k import Selector
from fastav_plugin.hooks.base import ENTRANCE, LayerView
from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS, RatioPruning
from fastav_plugin.tokens import Modality

#: Of a batch row, its candidates (int64 [n]) and how many are kept: indices into these candidates.
Picker = Callable[[int, Tensor, int], Tensor]


class FeaturePruning(RatioPruning):
    """Keep a share of the tokens of each modality, chosen in each batch row by its features.

    The cut is made before layer 0, unless a subclass says otherwise.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart; None keeps all audio.
    """

    config_fields: ClassVar[Mapping[str, str]] = KEEP_RATIOS

    def __init__(
        self, visual_keep_ratio: float = 0.5, audio_keep_ratio: float | None = None
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)

    @override
    def default_layer(self, num_layers: int) -> int:
        return ENTRANCE

    @override
    def selector(self, view: LayerView) -> Selector:
        return each_row(self.picker(view))

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        """Those of each modality that loses something."""
        spent = torch.zeros_like(view.start)
        for tokens, ratio in self.groups(view):
            if ratio < 1:
                total, kept = tokens.sum(dim=1), (tokens & keep).sum(dim=1)
                macs = self.selection_macs(total, kept, width)
                spent = spent + torch.where(kept < total, macs, 0)
        return spent

    @abstractmethod
    def picker(self, view: LayerView) -> Picker:
        """What chooses among the candidates of one batch row."""


def each_row(pick: Picker) -> Selector:
    """The selector that asks `pick` for each batch row that loses something."""

    def select(candidates: Tensor, counts: Tensor) -> Tensor:
        keep = candidates.clone()
        totals = candidates.sum(dim=1)
        for sample, (count, total) in enumerate(
            torch.stack([counts.to(totals.device), totals], dim=1).tolist()
        ):
            if count < total:
                index = candidates[sample].nonzero().squeeze(1)
                picks = index[pick(sample, index, count)] if count else index[:0]
                keep[sample] = False
                keep[sample, picks] = True
        return keep

    return select


def question_tokens(view: LayerView) -> Tensor:
    """Bool [B, T], the text after the last media token; all text where there is none after it."""
    text = view.mask(Modality.TEXT)
    media_after = view.media.flip(1).cumsum(dim=1).flip(1) > 0
    question = text & ~media_after
    return torch.where(question.any(dim=1, keepdim=True), question, text)
