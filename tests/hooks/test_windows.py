"""DivPrune by windows: which tokens are compared, and how a sample's count is shared."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, LayerView, detach
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.hooks import DivPrune, DivPruneByFrame, method_hooks
from fastav_plugin.hooks.windows import Window, Windows
from tests.support.cases import assert_close, config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.oracle import held_rows, masked_dense, run
from tests.support.views import VIDEO, make_view, modalities


def seen(letters: list[str], frames: list[list[int]] | None = None) -> LayerView:
    """A view of random features; segments are unbroken runs of one letter."""
    modality = modalities(*letters)
    changes = torch.ones_like(modality, dtype=torch.bool)
    changes[:, 1:] = modality[:, 1:] != modality[:, :-1]
    draw = torch.Generator().manual_seed(0)
    return dataclasses.replace(
        make_view(modality, frame=frames),
        segment=changes.long().cumsum(1),
        hidden_states=torch.randn(*modality.shape, 8, generator=draw),
    )


def groups(view: LayerView, window: Window, ratio: float = 0.5) -> list[list[int]]:
    windows = Windows.of(view, view.modality == VIDEO, window, ratio)
    return [
        index[:size].tolist() for index, size in zip(windows.tokens, windows.sizes, strict=True)
    ]


def test_what_is_compared() -> None:
    view = seen(
        ["tvvvvavvvat", "....vvvtvvt"],
        [
            [-1, 0, 0, 1, 1, -1, 1, 2, 2, -1, -1],
            [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, -1],
        ],
    )
    assert groups(view, None) == [[1, 2, 3, 4, 6, 7, 8], [15, 16, 17, 19, 20]]
    assert groups(view, "segment") == [[1, 2, 3, 4], [6, 7, 8], [15, 16, 17], [19, 20]]
    assert groups(view, "frame") == [[1, 2], [3, 4], [6], [7, 8], [15, 16, 17], [19, 20]]
    assert groups(view, 3) == [[1, 2, 3], [4, 6, 7], [8], [15, 16, 17], [19, 20]]
    assert groups(view, 100) == groups(view, None)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    window=st.integers(1, 12),
    ratio=st.floats(0.01, 1),
)
def test_property_windows_share_the_samples_count(
    sizes: list[int], window: int, ratio: float
) -> None:
    width = max(sizes) + 1
    view = seen([("v" * size).ljust(width, "t") for size in sizes])
    windows = Windows.of(view, view.modality == VIDEO, window, ratio)
    assert (windows.quotas >= 0).all()
    assert (windows.quotas <= windows.sizes).all()
    keep = DivPrune(ratio, window=window)(view)
    assert keep is not None
    for kept, video, size in zip(keep, view.modality == VIDEO, sizes, strict=True):
        assert int((kept & video).sum()) == (max(1, round(ratio * size)) if size else 0)
        assert kept[~video].all()


def test_each_window_keeps_what_it_would_alone() -> None:
    view = seen(["vvvvvvvvvvvvt", "tvvvvvvtvvvvv"])
    keep = DivPrune(0.5, window=4)(view)
    windows = Windows.of(view, view.modality == VIDEO, 4, 0.5)
    features = view.hidden_states.flatten(0, 1)
    assert keep is not None
    for index, size, quota in zip(windows.tokens, windows.sizes, windows.quotas, strict=True):
        index = index[:size]
        picks = max_min_diversity(features[index], int(quota))
        assert sorted(index[picks].tolist()) == index[keep.flatten()[index]].tolist()


def test_a_dry_run_keeps_as_many() -> None:
    view = seen(["vvvvvvvvvvvvtvv", "tvvvvvvtvvvvvvv", "ttttttttttttttt"])
    for window in (None, "segment", 5):
        hook = DivPrune(0.3, window=window)
        keep, dry = hook(view), hook.dry_run(view)
        assert keep is not None and dry is not None
        assert keep.sum(dim=1).tolist() == dry.sum(dim=1).tolist()


@pytest.mark.parametrize("window", ["second", 0, -3, True, 2.5])
def test_no_window(window: object) -> None:
    with pytest.raises(ConfigError, match="'frame', 'segment', a positive number"):
        DivPrune(window=window)  # type: ignore[arg-type]


def test_reached_by_name_and_as_a_hook_and_saved() -> None:
    named = method_hooks(FastAVConfig(method="divprune_by_frame", visual_keep_ratio=0.2))
    (hook,) = named
    assert isinstance(hook, DivPruneByFrame)
    assert (hook.window, hook.visual_keep_ratio) == ("frame", 0.2)
    config = FastAVConfig(hooks=[DivPrune(0.25, window=50), DivPruneByFrame(0.5)])
    first, second = method_hooks(FastAVConfig.from_dict(config.to_dict()))
    assert isinstance(first, DivPrune) and isinstance(second, DivPruneByFrame)
    assert (first.window, second.window) == (50, "frame")


@pytest.mark.parametrize("name", ["omni_video", "llava"])
def test_equals_masked_dense(name: str) -> None:
    items = rows_of(name, "ragged")
    inputs = FAMILIES[name].batch(items)
    model = FAMILIES[name].model("sdpa")
    cache = FastAVCache(
        config_of(name, "divprune_by_frame", visual_keep_ratio=0.5),
        FAMILIES[name].token_map(items),
    )
    try:
        result = run(model, inputs, cache)
    finally:
        detach(model)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    assert int(held[0].sum()) < int(inputs["attention_mask"].sum())
    assert_close(result.logits, masked_dense(model, inputs, held, result.tokens).logits)
