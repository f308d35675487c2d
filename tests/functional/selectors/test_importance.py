"""Cues and relevance against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional.selectors.importance import (
    change_in_time,
    cross_modal_relevance,
    distance_to_mean,
    mean_cosine,
)
from tests.functional.selectors.test_contract import gauss


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))


def scaled(values: list[float]) -> Tensor:
    found = torch.tensor(values)
    return (found - found.min()) / (found.max() - found.min())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_change_to_the_same_cell_of_the_next_frame(dtype: torch.dtype) -> None:
    frames, cells = 4, 5
    features = gauss(frames * cells, 8).to(dtype)
    time = torch.arange(frames).repeat_interleave(cells)
    cell = torch.arange(cells).repeat(frames)
    found = change_in_time(features, time, cell)
    for place in range(frames * cells):
        other = place + cells if place + cells < frames * cells else place - cells
        assert found[place] == pytest.approx(1 - cosine(features[place], features[other]), abs=1e-6)
    # In whatever order they come.
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(change_in_time(features[order], time[order], cell[order]), found[order])


def test_change_where_there_is_no_next() -> None:
    features = gauss(4, 8)
    found = change_in_time(features, torch.tensor([0, 1, 5, 6]), torch.tensor([0, 0, 0, 3]))
    assert found[0] == found[1] == pytest.approx(1 - cosine(features[0], features[1]), abs=1e-6)
    # The cell of another column is another cell, also where numbers meet across frames.
    assert found[2:].tolist() == [0, 0]
    assert change_in_time(features[:0], torch.empty(0).long(), torch.empty(0).long()).shape == (0,)


def test_distance_to_the_mean() -> None:
    features = gauss(12, 6)
    features[4] = 0
    group = torch.tensor([0, 0, 1, 1, 1, 2, 0, 1, 2, 2, 0, 3])
    found = distance_to_mean(features, group)
    for place in range(12):
        mean = features[group == group[place]].mean(dim=0)
        assert found[place] == pytest.approx(1 - cosine(features[place], mean), abs=1e-6)


def test_mean_cosine() -> None:
    features, others = gauss(5, 6), gauss(3, 6, 1)
    wanted = [sum(cosine(one, other) for other in others) / 3 for one in features]
    torch.testing.assert_close(mean_cosine(features, others), torch.tensor(wanted))
    assert mean_cosine(features, others[:0]).tolist() == [0] * 5


@pytest.mark.parametrize("audio", [0, 4])
@pytest.mark.parametrize("asked", [0, 3])
def test_relevance(audio: int, asked: int) -> None:
    features, question = gauss(9, 6), gauss(3, 6, 1)[:asked]
    visual = torch.arange(9) >= audio
    wanted = torch.zeros(9)
    density = [
        torch.tensor(sum(cosine(one, other) for other in features) / 9 - 1).exp().item()
        for one in features
    ]
    wanted += scaled(density)
    if asked:
        to_question = [
            max([cosine(one, word) for word in question] + [cosine(one, question.mean(dim=0))])
            for one in features
        ]
        wanted += scaled(to_question)
    if audio:
        to_other = [
            cosine(one, features[visual != visual[place]].mean(dim=0))
            for place, one in enumerate(features)
        ]
        wanted += scaled(to_other)
    torch.testing.assert_close(cross_modal_relevance(features, question, visual), wanted)
