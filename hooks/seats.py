"""SEATS: diverse tokens inside short windows, then budgets by attention, then no media at all."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.functional.top_k import counts_of, keep_top, spread_evenly
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerView
from fastav_plugin.hooks.plannable import Count, PlannableHook, layer_at_depth
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.tokens import Modality

#: Published for 28 layers: from each layer on, the share of media tokens, as a multiple of R.
PUBLISHED = {ENTRANCE: 1.40, 16: 1.30, 18: 1.04, 20: 0.31, 23: 0.0}
_DEPTH = 28

#: Video time grids in a window: two seconds, where a grid is two frames of two a second.
GRIDS = 2
#: Audio tokens in a window of audio alone: two seconds at 25 tokens a second.
AUDIO_TOKENS = 50
#: First window numbers of images, and of audio without video.
_IMAGES, _SOUNDS = 1 << 40, 1 << 41


def schedule(ratio: float, num_layers: int) -> dict[int, float]:
    """Share of a prompt's media tokens kept from each cut on, so that layers average `ratio`.

    The published layers are scaled by depth and rounded; where two fall together the later one
    counts. One factor on all shares corrects the average for that rounding (0.9996 at 28 layers).
    A share cannot exceed one, so averages above about 0.7 are not reached.
    """
    shares: dict[int, float] = {}
    for layer, share in PUBLISHED.items():
        scaled = layer_at_depth(layer / _DEPTH, num_layers)
        shares[ENTRANCE if layer == ENTRANCE else scaled] = share
    layers = sorted(shares)
    ends = [*layers[1:], num_layers]
    spans = [end - max(0, start) for start, end in zip(layers, ends, strict=True)]
    total = sum(shares[layer] * span for layer, span in zip(layers, spans, strict=True))
    factor = ratio * num_layers / total
    return {layer: min(1.0, factor * shares[layer]) for layer in layers}


def apportion(weights: Sequence[float], sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers that add up to `total`, as near to weight x total as they can be.

    The weights add up to one. Each number is at most its size, and at least 1 if `total` (at most
    the sum of all sizes) suffices; the remainder goes where one is farthest below its share.
    """
    wanted = [weight * total for weight in weights]
    least = 1 if total >= len(sizes) else 0
    given = [
        min(size, max(least, math.floor(share))) for share, size in zip(wanted, sizes, strict=True)
    ]
    while (missing := total - sum(given)) != 0:
        step = 1 if missing > 0 else -1
        open_ = [i for i, size in enumerate(sizes) if min(least, size) <= given[i] + step <= size]
        chosen = max(open_, key=lambda index: (step * (wanted[index] - given[index]), -index))
        given[chosen] += step
    return given


def time_windows(view: LayerView) -> Tensor:
    """Number the windows of time of each batch row's media: int64 [B, T], -1 outside media.

    Video goes by its frame numbers, and so does audio that has them. Other audio is taken to
    last as long as the prompt's video; without one it is cut into runs of `AUDIO_TOKENS`
    positions. An image, or a clip whose frames are unknown, is one window. A token keeps its
    number while others are dropped, except for audio that is spread over the length of the
    surviving video.
    """
    visual, audio = view.mask(*VISUAL), view.mask(Modality.AUDIO)
    timed = (visual | audio) & (view.frame >= 0)
    window = torch.where(timed, view.frame // GRIDS, -1)
    window = torch.where(visual & (view.frame < 0), _IMAGES + view.segment, window)
    last_window = torch.where(visual & timed, window, -1).amax(dim=1, keepdim=True)
    untimed = audio & (view.frame < 0)
    far = torch.iinfo(torch.int64).max
    first = torch.where(untimed, view.positions, far).amin(dim=1, keepdim=True)
    length = torch.where(untimed, view.positions, -1).amax(dim=1, keepdim=True) - first + 1
    beside = (view.positions - first) * (last_window + 1) // length.clamp(min=1)
    alone = _SOUNDS + (view.positions - view.start[:, None]) // AUDIO_TOKENS
    return torch.where(untimed, torch.where(last_window < 0, alone, beside), window)


class _Seats(PlannableHook):
    """What both hooks have in common: R, which the config's `visual_keep_ratio` gives."""

    # R is that of audio, too.
    config_fields = {"keep_ratio": "visual_keep_ratio"}  # noqa: RUF012

    def __init__(self, keep_ratio: float = 0.25) -> None:
        check_ratio("keep_ratio", keep_ratio, "(0, 1]")
        self.keep_ratio = keep_ratio


@register_hook
class SeatsEntrance(_Seats):
    """SEATS, before layer 0: max-min diversity inside windows of two time grids.

    Each modality keeps `1.4 R` of its tokens, divided among its windows by their size.
    Distance is plain, `1 - cosine`: the authors weight it by the encoder's attention, which a
    LayerView does not show.

    Args:
        keep_ratio: R, the share of media tokens kept in the mean over all layers, in (0, 1].

    Reference: SEATS (arXiv 2605.20035).
    """

    name = "seats_entrance"

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({ENTRANCE})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = ~view.media
        for sample, index, share in self._windows(view):
            picks = max_min_diversity(view.hidden_states[sample, index], share)
            keep[sample, index[picks]] = True
        return keep

    def _windows(self, view: LayerView) -> Iterator[tuple[int, Tensor, int]]:
        """Each window: its batch row, the index of its tokens, and how many are kept."""
        windows = time_windows(view)
        for tokens, totals in self._totals(view):
            for sample, total in enumerate(totals.tolist()):
                mask, window = tokens[sample], windows[sample]
                numbers, sizes = torch.unique(window[mask], return_counts=True)
                counts = sizes.tolist()
                shares = apportion([size / sum(counts) for size in counts], counts, total)
                for number, share in zip(numbers, shares, strict=True):
                    yield sample, (mask & (window == number)).nonzero().squeeze(1), share

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, and each pick's distances to all."""
        return candidates * candidates * width + kept * candidates

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        spent = [0] * len(view.start)
        for sample, index, share in self._windows(view):
            spent[sample] += self.selection_macs(len(index), share, width)
        return torch.tensor(spent)

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        keep = ~view.media
        for tokens, totals in self._totals(view):
            keep |= spread_evenly(tokens, totals)
        return keep

    def _totals(self, view: LayerView) -> list[tuple[Tensor, Tensor]]:
        """Visual and audio tokens (bool [B, T]), and how many of them are kept (int64 [B])."""
        share = schedule(self.keep_ratio, view.num_layers)[ENTRANCE]
        masks = (view.mask(*VISUAL), view.mask(Modality.AUDIO))
        return [(tokens, counts_of(tokens.sum(dim=1), share)) for tokens in masks]


@register_hook
class SeatsStages(_Seats):
    """SEATS, inside the network: budgets of windows by attention, and no media in the last layers.

    On entering layers 16, 18 and 20 of 28, scaled by depth elsewhere, a window's weight is the
    mean of `softmax(mean score / temperature)` over the windows' visual tokens and over their
    audio tokens. It is the window's share of the tokens kept, which is split between the two
    modalities by weight x count; inside, the tokens with the highest scores are kept. On entering
    layer 23 all media are dropped. Keys and values in earlier layers are kept, where the authors
    delete them.

    Args:
        keep_ratio: R, the share of media tokens kept in the mean over all layers, in (0, 1].
        temperature: of both softmaxes.

    Reference: SEATS (arXiv 2605.20035).
    """

    name = "seats_stages"
    needs_scores = True
    may_empty = True

    def __init__(self, keep_ratio: float = 0.25, temperature: float = 0.1) -> None:
        super().__init__(keep_ratio)
        if not temperature > 0:
            raise ConfigError(f"`temperature` must be above 0, got {temperature!r}.")
        self.temperature = temperature

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(schedule(self.keep_ratio, num_layers)) - {ENTRANCE}

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.scores is not None
        keep = ~view.media
        windows = time_windows(view)
        for sample, total in enumerate(self._totals(view).tolist()):
            if total:
                keep[sample] |= self._best(view, windows[sample], sample, total)
        return keep

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        return ~view.media | spread_evenly(view.media, self._totals(view))

    def _totals(self, view: LayerView) -> Tensor:
        """int64 [B], media tokens kept: a share of the survivors, whose number alone is known."""
        shares = schedule(self.keep_ratio, view.num_layers)
        before = max(layer for layer in shares if layer < view.layer)
        share = shares[view.layer] / shares[before]
        totals = view.media.sum(dim=1)
        return counts_of(totals, share) if share else totals * 0

    def _best(self, view: LayerView, window: Tensor, sample: int, total: int) -> Tensor:
        """Bool [T], the media tokens of one batch row that are kept."""
        assert view.scores is not None
        scores = view.scores[sample]
        masks = [view.mask(*VISUAL)[sample], view.mask(Modality.AUDIO)[sample]]
        numbers = torch.unique(window[masks[0] | masks[1]])
        members = numbers[:, None] == window  # [windows, T]
        counts = torch.stack([(members & mask).sum(dim=1) for mask in masks])
        sums = torch.stack([((members & mask) * scores).sum(dim=1) for mask in masks])
        means = (sums / counts.clamp(min=1)).masked_fill(counts == 0, float("-inf"))
        present = counts.sum(dim=1) > 0
        weights = torch.softmax(means[present].double() / self.temperature, dim=1)
        sizes: list[list[int]] = counts.T.tolist()
        budgets = apportion(weights.mean(dim=0).tolist(), [sum(pair) for pair in sizes], total)
        split = torch.zeros_like(counts, dtype=torch.float64)
        split[present] = weights * counts[present]
        keep = torch.zeros_like(masks[0])
        for number, budget in enumerate(budgets):
            pair = split[:, number]
            visual = min(max(0, round(float(budget * pair[0] / pair.sum()))), sizes[number][0])
            visual = max(visual, budget - sizes[number][1])
            for mask, count in zip(masks, (visual, budget - visual), strict=True):
                tokens, counted = mask & members[number], torch.tensor([count])
                keep |= keep_top(scores[None], tokens[None], counted.to(scores.device))[0]
        return keep
