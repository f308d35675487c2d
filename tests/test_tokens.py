from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin import Modality, TokenMap, TokenMapError

PAD, TEXT, IMAGE, VIDEO, AUDIO = (int(kind) for kind in Modality)


def test_from_spans_marks_modality_segment_and_frame() -> None:
    tokens = TokenMap.from_spans(
        12, image=[(1, 3)], video=[(3, 7), (10, 12)], audio=[(8, 9)], tokens_per_frame=2
    )
    modality = [TEXT, IMAGE, IMAGE, *[VIDEO] * 4, TEXT, AUDIO, TEXT, VIDEO, VIDEO]
    assert tokens.modality.tolist() == [modality]
    assert tokens.segment.tolist() == [[-1, 0, 0, 1, 1, 1, 1, -1, 2, -1, 3, 3]]
    assert tokens.frame.tolist() == [[-1, -1, -1, 0, 0, 1, 1, -1, -1, -1, 2, 2]]
    assert (tokens.rows, tokens.length) == (1, 12)
    assert tokens.media.sum() == 9
    assert tokens.valid.all()
    assert tokens.mask(Modality.VIDEO, Modality.IMAGE).sum() == 8


def test_an_incomplete_last_frame_is_a_frame() -> None:
    tokens = TokenMap.from_spans(7, video=[(0, 3), (3, 7)], tokens_per_frame=2)
    assert tokens.frame.tolist() == [[0, 0, 1, 2, 2, 3, 3]]


def test_the_order_in_which_spans_are_given_does_not_matter() -> None:
    one = TokenMap.from_spans(9, video=[(6, 8), (0, 2)], audio=[(2, 6)])
    two = TokenMap.from_spans(9, video=[(0, 2), (6, 8)], audio=[(2, 6)])
    assert torch.equal(one.segment, two.segment)


@pytest.mark.parametrize(
    "spans",
    [
        {"video": [(0, 11)]},
        {"video": [(-1, 3)]},
        {"video": [(3, 3)]},
        {"video": [(5, 3)]},
        {"audio": [(10, 12)]},
        {"video": [(0, 4)], "audio": [(3, 6)]},
        {"video": [(0, 4), (0, 4)]},
        {"image": [(2, 8)], "audio": [(4, 5)]},
    ],
)
def test_from_spans_refuses_spans_that_do_not_fit(spans: dict[str, list[tuple[int, int]]]) -> None:
    with pytest.raises(TokenMapError, match="span|Span"):
        TokenMap.from_spans(10, **spans)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, -1])
def test_from_spans_refuses_empty_prompts(length: int) -> None:
    with pytest.raises(TokenMapError):
        TokenMap.from_spans(length)


@pytest.mark.parametrize("frame", [-1, 0])
def test_from_spans_refuses_frames_without_tokens(frame: int) -> None:
    with pytest.raises(TokenMapError):
        TokenMap.from_spans(10, video=[(0, 4)], tokens_per_frame=frame)


def test_three_tensors_of_one_shape() -> None:
    modality = torch.ones((1, 4), dtype=torch.uint8)
    index = torch.full((1, 4), -1)
    with pytest.raises(TokenMapError, match="one shape"):
        TokenMap(modality, index, index[:, :3])
    with pytest.raises(TokenMapError, match="one shape"):
        TokenMap(modality[0], index[0], index[0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_pads_on_the_side_asked_for(side: str) -> None:
    maps = [TokenMap.from_spans(5, video=[(1, 3)]), TokenMap.from_spans(3), TokenMap.from_spans(4)]
    batch = TokenMap.batch(maps, padding_side=side)
    assert (batch.rows, batch.length) == (3, 5)
    assert batch.valid.sum(dim=1).tolist() == [5, 3, 4]
    pads = (~batch.valid).nonzero()[:, 1].tolist()
    assert pads == ([0, 1, 0] if side == "left" else [3, 4, 4])
    assert (batch.segment[~batch.valid] == -1).all()
    assert (batch.frame[~batch.valid] == -1).all()
    assert torch.equal(batch.modality[0], maps[0].modality[0])


def test_batch_of_batches_and_errors() -> None:
    pair = TokenMap.batch([TokenMap.from_spans(5), TokenMap.from_spans(3)])
    assert TokenMap.batch([pair, TokenMap.from_spans(7)]).rows == 3
    with pytest.raises(TokenMapError, match="at least one"):
        TokenMap.batch([])
    with pytest.raises(TokenMapError, match="'centre'"):
        TokenMap.batch([pair], padding_side="centre")


def test_from_placeholders_never_assumes_one_block() -> None:
    ids = torch.tensor([[7, 90, 90, 7, 92, 91, 92, 91, 7], [0, 0, 90, 7, 7, 90, 7, 7, 7]])
    mask = torch.ones_like(ids)
    mask[1, :3] = 0  # the third is a placeholder id inside the padding
    kinds = {90: Modality.IMAGE, 91: Modality.VIDEO, 92: Modality.AUDIO}
    tokens = TokenMap.from_placeholders(ids, kinds, mask)
    assert tokens.modality.tolist() == [
        [TEXT, IMAGE, IMAGE, TEXT, AUDIO, VIDEO, AUDIO, VIDEO, TEXT],
        [PAD, PAD, PAD, TEXT, TEXT, IMAGE, TEXT, TEXT, TEXT],
    ]
    assert tokens.segment.tolist() == [
        [-1, 0, 0, -1, 1, 2, 3, 4, -1],
        [-1, -1, -1, -1, -1, 0, -1, -1, -1],
    ]
    assert (tokens.frame == -1).all()


def test_from_placeholders_without_padding_or_media() -> None:
    tokens = TokenMap.from_placeholders(torch.arange(6).view(2, 3), {90: Modality.IMAGE})
    assert not tokens.media.any()
    assert tokens.valid.all()


def test_fit_repeats_rows_for_beams() -> None:
    tokens = TokenMap.batch([TokenMap.from_spans(5, video=[(1, 3)]), TokenMap.from_spans(4)])
    fitted = tokens.fit(6, 5, 0)
    assert fitted.rows == 6
    assert torch.equal(fitted.modality[:3], tokens.modality[:1].expand(3, -1))
    assert torch.equal(fitted.modality[3:], tokens.modality[1:].expand(3, -1))


def test_fit_extends_by_drafted_text() -> None:
    tokens = TokenMap.from_spans(5, video=[(3, 5)])
    fitted = tokens.fit(1, 8, 3)
    assert fitted.modality.tolist() == [[TEXT, TEXT, TEXT, VIDEO, VIDEO, TEXT, TEXT, TEXT]]
    assert fitted.valid.all()
    assert fitted.segment[0, 5:].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("rows", "length", "drafted"), [(2, 6, 0), (2, 4, 0), (3, 5, 0), (1, 5, 0), (2, 8, 2)]
)
def test_fit_refuses_another_prompt(rows: int, length: int, drafted: int) -> None:
    tokens = TokenMap.batch([TokenMap.from_spans(5), TokenMap.from_spans(4)])
    with pytest.raises(TokenMapError):
        tokens.fit(rows, length, drafted)


def test_a_map_of_the_wrong_length_says_both_numbers() -> None:
    with pytest.raises(TokenMapError, match="9 positions.*10"):
        TokenMap.from_spans(9).fit(1, 10, 0)


def test_rows_move_together() -> None:
    tokens = TokenMap.batch(
        [TokenMap.from_spans(4, video=[(0, 2)], tokens_per_frame=1), TokenMap.from_spans(4)]
    )
    swapped = tokens.select(torch.tensor([1, 0, 0]))
    for name in ("modality", "segment", "frame"):
        assert torch.equal(getattr(swapped, name), getattr(tokens, name)[[1, 0, 0]])
    doubled = tokens.repeat_interleave(2)
    assert torch.equal(doubled.modality, tokens.modality[[0, 0, 1, 1]])
    framed = tokens.with_frames(torch.zeros_like(tokens.frame))
    assert (framed.frame == 0).all()
    assert torch.equal(framed.modality, tokens.modality)


@given(st.lists(st.sampled_from([0, 1, 90, 91]), min_size=1, max_size=30))
def test_segments_are_the_unbroken_runs(ids: list[int]) -> None:
    kinds = {90: Modality.IMAGE, 91: Modality.VIDEO}
    segment = TokenMap.from_placeholders(torch.tensor([ids]), kinds).segment[0].tolist()
    expected, run = [], -1
    for place, token in enumerate(ids):
        if token < 90:
            expected.append(-1)
            continue
        run += place == 0 or ids[place - 1] != token
        expected.append(run)
    assert segment == expected


@pytest.mark.parametrize("spans", [(2, 9), [(2.5, 9)], [(1, 2, 3)], 7])
def test_spans_that_are_no_pairs_of_integers(spans: Any) -> None:
    with pytest.raises(TokenMapError, match="pairs of integers"):
        TokenMap.from_spans(50, video=spans)


def test_a_batch_of_something_else() -> None:
    with pytest.raises(TokenMapError, match="at least one TokenMap"):
        TokenMap.batch([1])  # type: ignore[list-item]


def test_maps_are_equal_if_their_tensors_are() -> None:
    one, two = (TokenMap.from_spans(9, video=[(1, 4)]) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != TokenMap.from_spans(9, video=[(1, 5)])
    assert one != TokenMap.from_spans(8, video=[(1, 4)])
    assert one != TokenMap.batch([one, one])
    assert one != "a map"
    assert one in [two]


def test_repr_is_short() -> None:
    one = TokenMap.from_spans(300, video=[(1, 40)], audio=[(50, 51)])
    assert repr(one) == "TokenMap(1 row of 300: 260 text, 39 video, 1 audio tokens)"
    both = TokenMap.batch([one, TokenMap.from_spans(5, image=[(0, 2)])])
    text = "263 text, 2 image, 39 video, 1 audio tokens, 295 padding"
    assert repr(both) == f"TokenMap(2 rows of 300: {text})"
    padding = both.map_rows(lambda rows: rows[1:, :3])
    assert repr(padding) == "TokenMap(1 row of 3: 3 padding)"
    assert repr(one.first(0)) == "TokenMap(1 row of 0: no tokens)"
    assert repr(Modality.AUDIO) == "Modality.AUDIO"
    assert eval(repr(Modality.AUDIO)) is Modality.AUDIO
