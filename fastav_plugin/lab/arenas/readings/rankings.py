"""Orders of the media tokens of one prompt, and a hook that cuts by a given order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.functional.neighbours import share_in_sequence
from fastav_plugin.functional.top_k import Selector, best_of, counts_of, keep_top
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.ratio_pruning import RatioPruning
from fastav_plugin.lab.arenas.readings.attention_rows import AttentionRows

#: Tokens that are protected as sinks, and layers of the short sum.
SINKS, SUMMED = 5, 5
#: How far the penalty for near tokens reaches, and what it leaves of a score.
_NEAR, _LEFT = 2, 0.5

#: The engine's own ranking, and the one that knows the answer's place.
LAST, ORACLE, RANDOM = "last query, mean over heads", "answer's tokens, then random", "random"


@dataclass(frozen=True)
class Reading:
    """What a ranking may look at.

    Attributes:
        layers: of the dense run, those of each layer.
        cut: the layer that is entered with fewer tokens, at least 1.
        shared: float32 [L, N], `last` in the mean over all questions about the passage.
        evidence: bool [N], media tokens that hold the answer.
        draw: float32 [N], random numbers in [0, 1).
    """

    layers: Sequence[AttentionRows]
    cut: int
    shared: Tensor
    evidence: Tensor
    draw: Tensor

    @property
    def below(self) -> AttentionRows:
        """The layer that is left when the cut is made."""
        return self.layers[self.cut - 1]


#: Gives float32 [N]; the highest are kept.
Ranking = Callable[[Reading], Tensor]


def _summed(reading: Reading, first: int) -> Tensor:
    rows = reading.layers[max(0, first) : reading.cut]
    return torch.stack([each.last for each in rows]).sum(dim=0)


def _sinks_protected(reading: Reading) -> Tensor:
    protected = reading.shared[reading.cut - 1].topk(min(SINKS, len(reading.draw))).indices
    return reading.below.last.index_fill(0, protected, float("inf"))


def _first_protected(reading: Reading) -> Tensor:
    scores = reading.below.last.clone()
    scores[:SINKS] = float("inf")
    return scores


def _sinks_left_out(reading: Reading) -> Tensor:
    left_out = reading.shared[reading.cut - 1].topk(min(SINKS, len(reading.draw))).indices
    return reading.below.last.index_fill(0, left_out, float("-inf"))


def near_penalised(scores: Tensor, near: int = _NEAR, left: float = _LEFT) -> Tensor:
    """Pick the best again and again, each time lowering what is near it; the order as scores.

    Args:
        scores: float32 [N], at least 0, in prompt order.
        near: places on either side that are lowered.
        left: what each pick leaves of a score near it.

    Returns:
        float32 [N], N for the first pick to 1 for the last.
    """
    rest, order = scores.clone(), torch.empty_like(scores)
    for place in range(len(scores), 0, -1):
        best = int(rest.argmax())
        rest[max(0, best - near) : best + near + 1] *= left
        rest[best] = float("-inf")
        order[best] = place
    return order


def _neighbours(reading: Reading) -> Tensor:
    scores = reading.below.last[None]
    positions = torch.arange(scores.shape[1], device=scores.device)[None]
    return share_in_sequence(scores, positions, torch.zeros_like(positions), 2)[0]


#: By name in the table. Those but the first that gained nothing on text are here to be asked again.
RANKINGS: Mapping[str, Ranking] = {
    LAST: lambda reading: reading.below.last,
    "question's tokens, mean": lambda reading: reading.below.question,
    "maximum over heads": lambda reading: reading.below.highest,
    f"sum over {SUMMED} layers": lambda reading: _summed(reading, reading.cut - SUMMED),
    "sum over all layers below": lambda reading: _summed(reading, 0),
    "times the value's norm": lambda reading: reading.below.valued,
    f"{SINKS} sinks protected": _sinks_protected,
    f"first {SINKS} protected": _first_protected,
    f"{SINKS} sinks left out": _sinks_left_out,
    "less before the question": lambda reading: reading.below.last - reading.below.before,
    "near tokens penalised": lambda reading: near_penalised(reading.below.last),
    "neighbours 2": _neighbours,
    RANDOM: lambda reading: reading.draw,
    ORACLE: lambda reading: reading.draw + reading.evidence,
}


def top_share(scores: Tensor, ratio: float) -> Tensor:
    """Bool [N], the best `max(1, round(ratio * N))` of float [N]; of equal ones the first."""
    candidates = torch.ones_like(scores, dtype=torch.bool)[None]
    counts = counts_of(candidates.sum(dim=1), ratio)
    return keep_top(scores[None], candidates, counts)[0]


class GivenRanking(RatioPruning):
    """Keep the media tokens that are best in an order made elsewhere, whatever their modality.

    Args:
        ratio: share of the media kept, in (0, 1].
        layer: the layer to enter.
        scores: float32 [T], of each position of the prompt.
    """

    name = "given_ranking"
    competes = True

    def __init__(self, ratio: float, layer: int, scores: Tensor) -> None:
        super().__init__(ratio, ratio, layer)
        self.scores = scores

    @override
    def selector(self, view: LayerView) -> Selector:
        return best_of(self.scores.to(view.positions.device)[view.positions])
