"""Pictures of a view, and scores that patches share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastav_plugin import ConfigError
from fastav_plugin.hooks import FastV, LowAttentive, PyramidDrop
from fastav_plugin.hooks.pictures import Pictures, scores_with_neighbours
from tests.support.views import make_view, modalities, shown


def test_frames_pictures_and_clips() -> None:
    frame = [[-1, 0, 0, 0, 0, -1, 1, 1, 1, 1, -1, -1], [-1] * 12]
    view = make_view(modalities("tvvvvavvvvtt", "...tiiiiivvt"), frame=frame)
    segment = torch.full((2, 12), -1)
    segment[0, 1:10] = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2])
    segment[1, 4:11] = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    found = Pictures.of(replace(view, segment=segment))
    assert found.number.tolist() == [
        [-1, 0, 0, 0, 0, -1, 1, 1, 1, 1, -1, -1],
        [-1, -1, -1, -1, 2, 2, 2, 2, 3, 4, 4, -1],
    ]
    assert found.cell[0].tolist() == [0, 0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 0]
    assert not found.lines.any()
    # Four tokens are two lines of two; one token is no line, and a clip has no frames.
    lines = Pictures.of(replace(view, segment=segment), 2).lines
    assert lines[0].tolist() == [0, 2, 2, 2, 2, 0, 2, 2, 2, 2, 0, 0]
    assert lines[1].tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0]


def test_a_picture_that_lost_a_token_is_no_grid() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 5, 6]])
    view = make_view(modalities("tiiiit"), positions=positions)
    found = Pictures.of(view, 2)
    assert found.lines.tolist() == [[0] * 6]
    assert found.cell.tolist() == [[0, 0, 1, 2, 4, 0]]


def test_no_visual_tokens() -> None:
    view = make_view(modalities("taat"))
    found = Pictures.of(view, 2)
    assert found.number.tolist() == [[-1] * 4]
    assert found.lines.tolist() == [[0] * 4]


def test_neighbours_in_a_sequence_and_on_a_grid() -> None:
    scores = torch.tensor([[0.5, 0, 0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0.2, 0, 0, 0.6]])
    view = make_view(modalities("tiiiiiiiiiaaaat"), scores=scores)
    found = scores_with_neighbours(view, 1, 3)[0]
    # Position 2 is in the middle of the first of three lines; 11 is the second of four sounds.
    patches = [0.09, 0.1, 0.09, 0.09, 0.09, 0.09, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.5, *patches, 0.18, 0.2, 0.18, 0, 0.6]))
    clip = make_view(modalities("tvvvvvvvvvaaaat"), scores=scores)
    torch.testing.assert_close(
        scores_with_neighbours(clip, 2, 3)[0],
        torch.tensor([0.5, 0.09, 0.1, 0.09, 0.09, 0, 0, 0, 0, 0, 0.18, 0.2, 0.18, 0.18, 0.6]),
    )


def test_neighbours_of_one_cut() -> None:
    scores = torch.tensor([[0.0, 0.1, 0, 0.4, 0, 0.28, 0.28, 0.29, 0]])
    view = make_view(modalities("tvvvvvvvt"), scores=scores)
    for hook_class in (FastV, LowAttentive):
        assert shown(hook_class(0.43)(view), view.modality) == ["t--v-v-vt"]
        near = hook_class(0.43, neighbours=1)
        assert shown(near(view), view.modality) == ["t-vvv---t"]
        assert near.to_dict()["neighbours"] == 1
    for name, value in (("neighbours", -1), ("columns", 0)):
        with pytest.raises(ConfigError, match=f"`{name}`.*{value}"):
            FastV(**{name: value})  # type: ignore[arg-type]


def test_a_wide_picture_is_not_taken_for_a_square() -> None:
    """Of 18 patches in two lines of nine, the one below the attended one is its neighbour."""
    scores = torch.zeros(1, 20)
    scores[0, 5] = 0.5
    view = make_view(modalities("t" + "i" * 18 + "t"), scores=scores)
    kept = FastV(6 / 18, neighbours=1, columns=9)(view)
    assert shown(kept, view.modality) == ["t---iii------iii---t"]
    assert not scores_with_neighbours(view, 1)[0, 10:].any()


def test_repeated_cuts_have_no_neighbours() -> None:
    assert PyramidDrop().neighbours == 0
