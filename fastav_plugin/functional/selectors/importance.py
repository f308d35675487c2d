"""Cues of importance that need no attention: change in time, difference from the whole, relevance.

The question and the other modality come as vectors; which tokens they are is a hook's affair.
"""

import torch
from torch import Tensor

from fastav_plugin.functional.cosines import min_max, unit_vectors
from fastav_plugin.functional.float32 import in_float32


@in_float32
def change_in_time(features: Tensor, time: Tensor, cell: Tensor) -> Tensor:
    """`1 - cosine` to the candidate of the same cell one step of time later.

    One that has none, as at the end, is compared with that of one step earlier; where there is
    neither the change is 0.

    Args:
        features: [M, d].
        time: int64 [M], at least 0.
        cell: int64 [M], at least 0; no two candidates share time and cell.

    Returns:
        float32 [M].
    Reference: OmniPack (arXiv 2608.03812).
    """
    if len(features) == 0:
        return features.new_zeros(0, dtype=torch.float32)
    units = unit_vectors(features.to(torch.float32, copy=True))
    step = cell.amax() + 1
    keys = time * step + cell
    ordered, order = keys.sort(stable=True)
    change = torch.zeros_like(keys, dtype=torch.float32)
    compared = torch.zeros_like(keys, dtype=torch.bool)
    for wanted in (keys + step, keys - step):
        place = torch.searchsorted(ordered, wanted).clamp(max=len(keys) - 1)
        there = (ordered[place] == wanted) & ~compared
        distance = 1 - (units * units[order[place]]).sum(dim=1)
        change = torch.where(there, distance, change)
        compared |= there
    return change


@in_float32
def distance_to_mean(features: Tensor, group: Tensor) -> Tensor:
    """`1 - cosine` to the mean of the candidate's group: float32 [M].

    Args:
        features: [M, d].
        group: int64 [M], numbers of groups from 0 on.

    Reference: OmniPack (arXiv 2608.03812).
    """
    upcast = features.float()
    number = int(group.amax()) + 1 if len(group) else 0
    # The length of a sum is of no matter to a cosine.
    sums = upcast.new_zeros((number, features.shape[1])).index_add_(0, group, upcast)
    norms = torch.linalg.vector_norm(upcast, dim=1)
    products = (upcast * unit_vectors(sums)[group]).sum(dim=1)
    return 1 - products / torch.where(norms > 0, norms, 1)


@in_float32
def mean_cosine(features: Tensor, others: Tensor) -> Tensor:
    """Mean cosine of each candidate to some vectors: float32 [M] of [M, d] and [Q, d].

    0 where there are no vectors; a vector of zeros counts as one of cosine 0.
    """
    if len(others) == 0:
        return features.new_zeros(len(features), dtype=torch.float32)
    units = unit_vectors(features.to(torch.float32, copy=True))
    return units @ unit_vectors(others.to(torch.float32, copy=True)).mean(dim=0)


@in_float32
def cross_modal_relevance(features: Tensor, question: Tensor, visual: Tensor) -> Tensor:
    """How much a token has to do with the question, with the other modality and with its like.

    The sum of three terms, each scaled to [0, 1] over the candidates: the larger of the cosine to
    the question's mean and the best cosine to one of its tokens; the cosine to the mean of the
    other modality, 0 without one; and the density `exp(-mean of 1 - cosine to all candidates)`.

    Args:
        features: [M, d].
        question: [Q, d]; the first term is 0 without a token.
        visual: bool [M], True for an image or video token, False for an audio token.

    Returns:
        float32 [M], in [0, 3].
    Reference: OmniPack (arXiv 2608.03812).
    """
    upcast = features.float()
    units = unit_vectors(features.to(torch.float32, copy=True))
    relevance = min_max((units @ units.mean(dim=0) - 1).exp())
    if len(question):
        asked = question.to(torch.float32, copy=True)
        asked = torch.cat([asked, asked.mean(dim=0, keepdim=True)])
        relevance += min_max((units @ unit_vectors(asked).T).amax(dim=1))
    if bool(visual.any()) and not bool(visual.all()):
        means = torch.stack([upcast[visual].mean(dim=0), upcast[~visual].mean(dim=0)])
        to_each = units @ unit_vectors(means).T
        relevance += min_max(torch.where(visual, to_each[:, 1], to_each[:, 0]))
    return relevance
