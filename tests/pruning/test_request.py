"""What is known of batch rows moves with them, and is padded where requests are stacked."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from fastav_plugin import TokenMap
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.pruning.request import RowFacts


def facts(*videos: tuple[int, int], length: int = 10, reason: int = 0) -> RowFacts:
    maps = [TokenMap.from_spans(length, video=[span]) for span in videos]
    count = len(videos)
    return RowFacts(
        token_map=TokenMap.batch(maps),
        given_map=TokenMap.batch(maps),
        shift=torch.arange(1, count + 1),
        rope_deltas=torch.arange(10, 10 + count)[:, None],
        prompt_end=torch.full((count,), length),
        reason=torch.full((count,), reason),
    )


def videos(known: RowFacts) -> list[list[int]]:
    assert known.token_map is not None
    return [(row == 3).nonzero().flatten().tolist() for row in known.token_map.modality]


def test_every_fact_moves_with_its_row() -> None:
    two = facts((2, 5), (4, 8))
    order = torch.tensor([1, 0, 1])
    moved = two.map_rows(lambda tensor: tensor[order])
    assert videos(moved) == [[4, 5, 6, 7], [2, 3, 4], [4, 5, 6, 7]]
    assert moved.shift is not None and moved.rope_deltas is not None
    assert moved.shift.tolist() == [2, 1, 2]
    assert moved.rope_deltas.flatten().tolist() == [11, 10, 11]
    chosen = two.select(order, 0)
    for entry in fields(RowFacts):
        one, other = getattr(moved, entry.name), getattr(chosen, entry.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other), entry.name
    assert videos(chosen) == videos(moved)


def test_the_first_positions() -> None:
    known = facts((2, 5), (4, 8)).first(5)
    assert videos(known) == [[2, 3, 4], [4]]
    assert known.token_map is not None and known.token_map.length == 5
    assert known.shift is not None
    nothing = facts((2, 5)).first(0)
    assert all(getattr(nothing, entry.name) is None for entry in fields(RowFacts))


def test_stacked_requests_are_padded_on_the_left() -> None:
    short, long = facts((2, 5)), facts((4, 8), length=14)
    stacked = RowFacts.stack([short, long], [12, 15])
    assert videos(stacked) == [[5, 6, 7], [4, 5, 6, 7]]
    assert stacked.prompt_end is not None
    assert stacked.prompt_end.tolist() == [13, 14]
    assert stacked.given_map is None
    assert stacked.shift is not None
    assert stacked.shift.tolist() == [1, 1]
    back = stacked.select(torch.tensor([0]), 3)
    assert videos(back) == [[2, 3, 4]]
    assert back.prompt_end is not None
    assert back.prompt_end.tolist() == [10]


def test_a_fact_that_one_request_lacks_is_nothing() -> None:
    bare = replace(facts((2, 5)), shift=None, rope_deltas=None)
    stacked = RowFacts.stack([bare, facts((2, 5), (4, 8))], [10, 10])
    assert stacked.shift is not None and stacked.rope_deltas is not None
    assert stacked.shift.tolist() == [0, 1, 2]
    assert stacked.rope_deltas.flatten().tolist() == [0, 10, 11]


def test_a_given_map_of_fewer_prompts_than_batch_rows_stays() -> None:
    one = TokenMap.from_spans(6, video=[(2, 4)])
    known = RowFacts(token_map=one.repeat_interleave(2), given_map=one)
    assert known.map_rows(lambda tensor: tensor[[1, 0]]).given_map is one


def test_what_follows_the_prompts_is_left_out_of_reports() -> None:
    stacked = RowFacts.stack([facts((2, 5)), facts((4, 8), length=14)], [12, 15])
    token_map, (positions,) = stacked.prompts([torch.arange(15).expand(2, -1)])
    assert positions[0].tolist() == [*range(13), -1, -1]
    assert token_map.valid[0].tolist() == [False] * 3 + [True] * 10 + [False] * 2


def test_why_nothing_was_pruned() -> None:
    few, cut, none = (facts((2, 5), reason=code) for code in (Reason.FEW_MEDIA, 0, Reason.NO_MEDIA))
    known = RowFacts.stack([few, cut, none], [10, 10, 10])
    assert [known.reason_of(row) for row in range(3)] == [Reason.FEW_MEDIA, None, Reason.NO_MEDIA]
    assert known.reason_of(-1) == Reason.NO_MEDIA
    assert known.reason_of(None) is None
    assert facts((2, 5), reason=Reason.NO_HOOKS).reason_of(None) == Reason.NO_HOOKS
