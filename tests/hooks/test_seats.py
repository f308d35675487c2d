"""SEATS: its schedule, its windows and its budgets."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin import ConfigError, FastAVConfig, Modality
from fastav_plugin.hooks import ENTRANCE, SeatsEntrance, SeatsStages
from fastav_plugin.hooks.seats import apportion, schedule, time_windows
from tests.support.views import make_view, modalities, shown


def test_the_published_schedule() -> None:
    found = schedule(0.1, 28)
    assert list(found) == [ENTRANCE, 16, 18, 20, 23]
    assert list(found.values()) == pytest.approx([0.14, 0.13, 0.104, 0.031, 0], rel=1e-3)


@given(st.integers(2, 100), st.floats(0.01, 0.6))
def test_layers_average_the_ratio(layers: int, ratio: float) -> None:
    found = schedule(ratio, layers)
    places = sorted(found)
    assert places[0] == ENTRANCE and places[-1] < layers
    assert found[places[-1]] == 0
    each = [found[max(place for place in places if place <= layer)] for layer in range(layers)]
    if max(found.values()) < 1:
        assert sum(each) / layers == pytest.approx(ratio)
    assert each == sorted(each, reverse=True)


sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(sizes, st.data())
def test_apportioned_numbers_fit(counts: list[int], data: st.DataObject) -> None:
    weights = [data.draw(st.floats(0.01, 1)) for _ in counts]
    total = data.draw(st.integers(0, sum(counts)))
    given_ = apportion([weight / sum(weights) for weight in weights], counts, total)
    assert sum(given_) == total
    least = 1 if total >= len(counts) else 0
    assert all(least <= found <= size for found, size in zip(given_, counts, strict=True))


def test_apportioned_numbers_follow_weights() -> None:
    assert apportion([0.5, 0.25, 0.25], [10, 10, 10], 8) == [4, 2, 2]
    assert apportion([0.9, 0.05, 0.05], [4, 10, 10], 8) == [4, 2, 2]
    assert apportion([0.98, 0.01, 0.01], [10, 10, 10], 6) == [4, 1, 1]
    assert apportion([0.5, 0.5], [3, 3], 0) == [0, 0]


def test_windows_of_video_with_its_sound() -> None:
    frames = [[-1, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, -1]]
    view = make_view(modalities("tvvavavvaavt"), frame=frames)
    assert time_windows(view).tolist() == [[-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, -1]]


def test_windows_of_sound_beside_video_and_alone() -> None:
    frames = [[-1, 0, 1, 2, 3, -1, -1, -1, -1, -1]]
    view = make_view(modalities("tvvvvaaaat"), frame=frames)
    assert time_windows(view)[0].tolist() == [-1, 0, 0, 1, 1, 0, 0, 1, 1, -1]
    alone = time_windows(make_view(modalities("t" + "a" * 120 + "t")))
    numbers, counts = torch.unique(alone, return_counts=True)
    # The tokens of positions 1..49, 50..99 and 100..120.
    assert counts.tolist() == [2, 49, 50, 21]
    image = make_view(modalities("tiit"))
    assert time_windows(image)[0, 1] == time_windows(image)[0, 2] >= 0


def test_entrance_keeps_every_window_and_the_exact_number() -> None:
    length, grids = 20, 8
    modality = modalities("t" + "v" * (length * grids) + "a" * 40 + "t")
    frame = torch.full(modality.shape, -1)
    frame[0, 1 : 1 + length * grids] = torch.arange(grids).repeat_interleave(length)
    view = make_view(modality, frame=frame.tolist(), layer=ENTRANCE, num_layers=28)
    torch.manual_seed(0)
    features = torch.randn(*modality.shape, 8)
    view = type(view)(**{**vars(view), "hidden_states": features})
    hook = SeatsEntrance(0.1)
    keep = hook(view)
    assert keep is not None
    ratio = schedule(0.1, 28)[ENTRANCE]
    video = keep & (modality == int(Modality.VIDEO))
    assert int(video.sum()) == round(ratio * length * grids)
    assert int((keep & (modality == int(Modality.AUDIO))).sum()) == round(ratio * 40)
    each = [int(video[frame // 2 == window].sum()) for window in range(grids // 2)]
    assert min(each) >= math.floor(sum(each) / len(each))
    dry = hook.dry_run(view)
    assert dry is not None and dry.sum() == keep.sum()
    assert keep[0, 0] and keep[0, -1]


def test_stages_favour_the_window_that_is_attended_to() -> None:
    modality = modalities("t" + "vvaa" * 2 + "t")
    frames = [[-1, 0, 1, 0, 1, 2, 3, 2, 3, -1]]
    scores = torch.tensor([[0.0, 0.1, 0.0, 0.0, 0.1, 0.3, 0.4, 0.1, 0.0, 0.0]])
    view = make_view(modality, frame=frames, scores=scores, layer=20, num_layers=28)
    keep = SeatsStages(0.1)(view)
    # 0.31 / 1.04 of 8 tokens are 2, one for each window. Video outweighs sound in the second
    # window (0.35 against 0.05 on the mean), so in the first one sound outweighs video.
    assert shown(keep, modality) == ["t---a-v--t"]
    wider = make_view(modality, frame=frames, scores=scores, layer=18, num_layers=28)
    kept = SeatsStages(0.1)(wider)
    assert kept is not None
    assert int((kept & wider.media).sum()) == round(1.04 / 1.30 * 8)
    assert int(kept[0, 5:9].sum()) >= int(kept[0, 1:5].sum())
    last = make_view(modality, frame=frames, scores=scores, layer=23, num_layers=28)
    gone = SeatsStages(0.1)(last)
    assert shown(gone, modality) == ["t--------t"]
    assert SeatsStages.may_empty


def test_settings() -> None:
    config = FastAVConfig(visual_keep_ratio=0.2)
    assert SeatsEntrance.from_config(config).keep_ratio == 0.2
    assert SeatsStages.from_config(config).keep_ratio == 0.2
    assert SeatsStages().layers(28) == {16, 18, 20, 23}
    for wrong in ({"keep_ratio": 0}, {"keep_ratio": 1.2}, {"temperature": 0}):
        with pytest.raises(ConfigError):
            SeatsStages(**wrong)
