"""What is known of each batch row moves with it."""

import torch

from fastav_plugin import TokenMap
from fastav_plugin.pruning.reasons import Reason
from fastav_plugin.pruning.row_facts import RowFacts


def facts(*reasons: int, shift: int | None = None, length: int = 6) -> RowFacts:
    """Of prompts with two media tokens each, the first of them with one position of padding."""
    token_map = TokenMap.from_spans(length, video=[(2, 4)]).repeat_interleave(len(reasons))
    padding = torch.zeros((len(reasons), length), dtype=torch.bool)
    padding[0, 0] = True
    rows = torch.zeros(len(reasons), dtype=torch.int64)
    return RowFacts(
        token_map=token_map.padded(padding),
        given_map=token_map,
        shift=None if shift is None else rows + shift,
        prompt_end=rows + length,
        reason=torch.tensor(reasons),
    )


def test_batch_rows_are_moved_together() -> None:
    moved = facts(0, Reason.NO_MEDIA, shift=3).map_rows(lambda tensor: tensor.flip(0))
    assert moved.token_map is not None and moved.given_map is not None and moved.shift is not None
    assert moved.token_map.valid[:, 0].tolist() == [True, False]
    assert moved.reason_of(0) is Reason.NO_MEDIA and moved.reason_of(1) is None
    assert moved.shift.tolist() == [3, 3]


def test_a_given_map_of_fewer_prompts_than_batch_rows_stays() -> None:
    one = TokenMap.from_spans(6, video=[(2, 4)])
    known = RowFacts(token_map=one.repeat_interleave(2), given_map=one)
    assert known.map_rows(lambda tensor: tensor[[1, 0]]).given_map is one


def test_selected_rows_lose_columns_that_are_padding_in_all_of_them() -> None:
    kept = facts(0, 0).select(torch.tensor([0]), 1)
    assert kept.token_map is not None and kept.prompt_end is not None
    assert (kept.token_map.rows, kept.token_map.length) == (1, 5)
    assert kept.prompt_end.tolist() == [5]


def test_the_first_positions() -> None:
    cut = facts(0).first(4)
    assert cut.token_map is not None and cut.given_map is not None
    assert (cut.token_map.length, cut.given_map.length) == (4, 4)
    assert facts(0).first(0).token_map is None


def test_stacked_requests_are_padded_on_the_left_and_end_apart() -> None:
    both = RowFacts.stack([facts(0, shift=2), facts(Reason.NO_MEDIA, length=4)], [8, 4])
    assert both.token_map is not None and both.shift is not None and both.prompt_end is not None
    assert both.shift.tolist() == [2, 0]
    assert both.prompt_end.tolist() == [6, 8]
    assert both.token_map.valid[1].tolist() == [False] * 5 + [True] * 3
    token_map, (positions,) = both.prompts([torch.arange(8).expand(2, -1)])
    assert positions[0].tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    assert token_map.valid[0].tolist() == [False] + [True] * 5 + [False] * 2
    assert both.reason_of(None) is None and both.reason_of(1) is Reason.NO_MEDIA
