"""Methods that choose by hidden states: counts, batch rows, and which text is the question."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin import FastAVConfig, LayerView
from fastav_plugin.hooks import (
    ENTRANCE,
    CDPruner,
    Dart,
    DivPrune,
    OmniPackEntrance,
    Scope,
    find_hook,
)
from fastav_plugin.hooks.feature_pruning import FeaturePruning, each_row, question_tokens
from tests.support.views import AUDIO, VIDEO, make_view, modalities, shown

HOOKS: list[type[FeaturePruning]] = [Scope, CDPruner, Dart, OmniPackEntrance]
each_hook = pytest.mark.parametrize("hook_class", HOOKS, ids=lambda hook: hook.name)

PROMPT = "tt" + "v" * 24 + "t" + "a" * 15 + "ttt"


def featured(
    *rows: str, seed: int = 0, frames: int = 6, dtype: torch.dtype = torch.float32
) -> LayerView:
    """A view with random features that do not depend on the padding; video in frames of six."""
    length = max(map(len, rows))
    view = make_view(modalities(*(row.rjust(length, ".") for row in rows)), layer=ENTRANCE)
    frame = torch.full(view.modality.shape, -1)
    states = torch.zeros(*view.modality.shape, 16)
    for number, row in enumerate(rows):
        draw = torch.Generator().manual_seed(seed + number)
        states[number, length - len(row) :] = torch.randn(len(row), 16, generator=draw)
        video = view.modality[number] == VIDEO
        frame[number, video] = torch.arange(int(video.sum())) // frames
    return replace(view, hidden_states=states.to(dtype), frame=frame)


@each_hook
@settings(max_examples=25, deadline=None)
@given(visual=st.floats(0.01, 1), audio=st.none() | st.floats(0.01, 1), seed=st.integers(0, 9))
def test_counts_are_exact(
    hook_class: type[FeaturePruning], visual: float, audio: float | None, seed: int
) -> None:
    view = featured(PROMPT, "vvvvvvvviiit", "ttt", seed=seed)
    hook = hook_class(visual, audio)
    for keep in (hook(view), hook.dry_run(view)):
        assert keep is not None
        kept = keep & view.alive
        assert kept[~view.media & view.alive].all()
        for row, total in ((0, 24), (1, 11)):
            visuals = kept[row] & (view.modality[row] < AUDIO) & view.media[row]
            assert int(visuals.sum()) == max(1, round(visual * total))
        sounds = int((kept[0] & (view.modality[0] == AUDIO)).sum())
        assert sounds == (15 if audio is None else max(1, round(audio * 15)))


@each_hook
def test_a_batch_row_alone(hook_class: type[FeaturePruning]) -> None:
    prompts = [PROMPT, "tvvvvvvvvvaaaaaatt", "t" * 60, "iiiiiiiiivvvvvvt"]
    batch = hook_class(0.4, 0.5)(featured(*prompts))
    assert batch is not None
    for number, prompt in enumerate(prompts):
        alone = hook_class(0.4, 0.5)(featured(prompt, seed=number))
        assert alone is not None
        assert torch.equal(batch[number, -len(prompt) :], alone[0])


@each_hook
def test_what_padding_holds_does_not_matter(hook_class: type[FeaturePruning]) -> None:
    view = featured(PROMPT, "tvvvvvvvvvaaaaaatt")
    states = torch.where(view.alive[..., None], view.hidden_states, 1e4)
    first, second = (
        hook_class(0.4, 0.5)(one) for one in (view, replace(view, hidden_states=states))
    )
    assert first is not None and second is not None
    assert torch.equal(first & view.alive, second & view.alive)


@each_hook
def test_features_of_sixteen_bits(hook_class: type[FeaturePruning]) -> None:
    view = featured(PROMPT, dtype=torch.bfloat16)
    upcast = replace(view, hidden_states=view.hidden_states.float())
    assert shown(hook_class(0.4, 0.5)(view), view.modality) == shown(
        hook_class(0.4, 0.5)(upcast), view.modality
    )


@each_hook
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_are_all_alike(hook_class: type[FeaturePruning], value: float) -> None:
    view = featured(PROMPT)
    states = torch.full_like(view.hidden_states, value)
    keep = hook_class(0.25, 0.4)(replace(view, hidden_states=states))
    assert keep is not None
    assert int((keep & (view.modality == VIDEO)).sum()) == 6
    assert int((keep & (view.modality == AUDIO)).sum()) == 6


@each_hook
def test_settings(hook_class: type[FeaturePruning]) -> None:
    hook = hook_class.from_config(FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2))
    assert (hook.visual_keep_ratio, hook.audio_keep_ratio) == (0.3, 0.2)
    assert find_hook(hook_class.name) is hook_class
    layer = 2 if hook_class is Dart else ENTRANCE
    assert hook.layers(28) == {layer}
    assert hook.caution(28) is None


def test_the_question_is_the_text_after_the_last_media_token() -> None:
    view = make_view(modalities("ttvvtaat", ".tvvttia", "...ttttt", "....vvvv"))
    found = question_tokens(view)
    assert shown(found, view.modality) == ["-------t", "-t--tt--", "---ttttt", "--------"]


def test_only_rows_that_lose_something_are_asked() -> None:
    asked: list[tuple[int, list[int], int]] = []

    def last(sample: int, index: torch.Tensor, count: int) -> torch.Tensor:
        asked.append((sample, index.tolist(), count))
        return torch.arange(len(index) - count, len(index))

    candidates = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).bool()
    keep = each_row(last)(candidates, torch.tensor([2, 2, 0, 0]))
    assert keep.int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert asked == [(0, [1, 2, 3], 2)]


def test_divprune_and_these_see_the_same_candidates() -> None:
    """As a check of the test's own view: its rows are those that DivPrune prunes."""
    view = featured(PROMPT)
    keep = DivPrune(0.5, 0.4)(view)
    assert keep is not None
    assert int((keep & view.media).sum()) == 12 + 6


@pytest.mark.parametrize("method", ["omnipack", "macer", "scope", "cdpruner", "dart"])
def test_on_two_devices(method: str) -> None:
    """Views and indices follow the layer's device, wherever the prompt came from."""
    pytest.importorskip("accelerate")
    from tests.behaviour.devices.test_two_devices import check

    check("llama_text", method, "single", "sdpa", 2)
