"""Hooks of the lab alone: a random control with another setting's counts, and an upper bound."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.functional.hashing import mix
from fastav_plugin.functional.top_k import keep_top
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerHook, LayerView
from fastav_plugin.hooks.ratio_pruning import RatioPruning
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality


class Counts(NamedTuple):
    """Image and video tokens, and audio tokens, that go on."""

    visual: int
    audio: int


def counts_by_cut(report: PruningReport) -> dict[int, Counts]:
    """How many tokens each cut of a run left, by the layer entered; of a batch of one."""
    kinds = report.modality_per_layer
    none = [0] * len(report.tokens_per_layer)
    image, video, audio = (kinds.get(name, none) for name in ("image", "video", "audio"))
    by_layer = [Counts(i + v, a) for i, v, a in zip(image, video, audio, strict=True)]
    whole = report.token_map
    before = Counts(int(whole.mask(*VISUAL).sum()), int(whole.mask(Modality.AUDIO).sum()))
    found = {}
    for layer, counts in enumerate(by_layer):
        if counts != before:
            found[layer or ENTRANCE] = counts
        before = counts
    return found


class RandomAsMany(LayerHook):
    """Keep, at each cut of another setting, as many media tokens as it did, drawn at random.

    One random order of the media decides all cuts, so the tokens kept late are among those kept
    before, as they must be.

    Args:
        counts: by the layer entered, or ENTRANCE.
        seed: of the draw.
    """

    name = "random_as_many"
    may_empty = True

    def __init__(self, counts: Mapping[int, Counts], seed: int) -> None:
        self.counts = dict(counts)
        self.seed = seed

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(self.counts)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        order = _random_order(view, self.seed)
        keep = ~view.media
        groups = (view.mask(*VISUAL), view.mask(Modality.AUDIO))
        for tokens, count in zip(groups, self.counts[view.layer], strict=True):
            wanted = torch.full_like(view.start, count)
            keep |= keep_top(order, tokens, torch.minimum(wanted, tokens.sum(dim=1)))
        return keep


class Oracle(RatioPruning):
    """Keep the tokens that hold the answer, and random others up to the ratio: an upper bound.

    Args:
        evidence: positions of the prompt.
        seed: of the others.
    """

    name = "oracle"
    lowest_layer = ENTRANCE
    competes = True

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        evidence: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio, layer)
        self.evidence = list(evidence)
        self.seed = seed

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        known = torch.tensor(self.evidence, dtype=torch.int64, device=view.positions.device)
        order = _random_order(view, self.seed) + 2 * torch.isin(view.positions, known)
        return self._keep(view, lambda tokens, counts: keep_top(order, tokens, counts))


def _random_order(view: LayerView, seed: int) -> Tensor:
    """float64 [B, T] in [0, 1), a number for each position that follows from the seed."""
    stream = mix(torch.full_like(view.positions, seed))
    bits = mix(stream + mix(view.positions))
    return (bits.double() / 2.0**64) + 0.5
