"""What choosing tokens costs, against counts made another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastav_plugin import FastAVConfig, Modality, TokenMap
from fastav_plugin.flops import LayerCost
from fastav_plugin.functional.rollout import rollout_row, weights_made
from fastav_plugin.hooks import method_hooks
from fastav_plugin.hooks.base import ENTRANCE, LayerView
from fastav_plugin.hooks.plannable import PlannableHook
from fastav_plugin.hooks.seats import SeatsEntrance, apportion, schedule, time_windows
from fastav_plugin.hooks.windows import Windows, window_sizes
from fastav_plugin.layers.account import Account
from fastav_plugin.planning.dry_run import plan_prefill
from fastav_plugin.pruning.survivors import Survivors

COST = LayerCost(64, 128, 32, 48, query_heads=4)
LAYERS = 6
#: Two batch rows: 8 text, 100 video in 4 frames, 150 audio; and half of each, padded.
PROMPTS = TokenMap.batch(
    [
        TokenMap.from_spans(258, video=[(3, 103)], audio=[(103, 253)], tokens_per_frame=25),
        TokenMap.from_spans(129, video=[(2, 52)], audio=[(52, 127)], tokens_per_frame=25),
    ]
)


def whole_view(prompts: TokenMap = PROMPTS) -> LayerView:
    """All tokens of the prompts, with random features."""
    survivors = Survivors(prompts)
    hidden = torch.randn(
        prompts.rows, prompts.length, 16, generator=torch.Generator().manual_seed(0)
    )
    return survivors.view(ENTRANCE, LAYERS, hidden, None, None)


def products_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> int:
    """Multiply-accumulates that torch counts in a call."""
    # Products of oneDNN's own layout are not counted.
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def overhead(method: str, **settings: Any) -> tuple[list[int], list[list[int]]]:
    config = FastAVConfig(method=method, **settings)
    plan = plan_prefill(config, PROMPTS, LAYERS, COST)
    return plan.overhead, plan.counts


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("vectors", [1, 3])
def test_the_rollouts_products_are_those_that_torch_counts(
    tokens: int, vectors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, keys = torch.randn(6, tokens, 8), torch.randn(2, tokens, 8)
    row = torch.ones(vectors, tokens)
    found = products_of(monkeypatch, lambda: rollout_row(row, [query], [keys]))
    assert found == int(weights_made(torch.tensor(tokens))) * 6 * (8 + vectors)


def test_scores_cost_one_query_times_all_keys_of_each_layer_that_is_read() -> None:
    found, counts = overhead("fastav", global_rule="first 20 tokens", fine_drop_ratio=0.2)
    # Fine cuts on entering layers 4 and 5 read layers 3 and 4.
    assert found == [COST.query_size * (row[3] + row[4]) for row in counts]
    assert overhead("fastv", global_layer=2)[0] == [COST.query_size * row[1] for row in counts]


def test_rollout_costs_every_layer_below_for_every_read() -> None:
    found, counts = overhead("rollout_guided", global_layer=3)
    per_weight = COST.query_size + COST.query_heads
    expected = []
    for row in counts:
        starts = range(0, row[0], 64)
        weights = sum(min(64, row[0] - at) * min(row[0], at + 64) for at in starts)
        expected.append(3 * weights * per_weight)
    assert found == expected


@pytest.mark.parametrize("ratio", [0.5, 0.1])
def test_divprune_costs_all_pairs_and_its_picks(ratio: float) -> None:
    sizes = [(100, 150), (50, 75)]
    found, _ = overhead("divprune", visual_keep_ratio=ratio)
    assert found == [n * n * 64 + max(1, round(ratio * n)) * n for n, _ in sizes]
    found, _ = overhead("divprune", visual_keep_ratio=1.0, audio_keep_ratio=ratio)
    assert found == [n * n * 64 + max(1, round(ratio * n)) * n for _, n in sizes]
    assert overhead("divprune", visual_keep_ratio=1.0)[0] == [0, 0]


def test_windows_cost_their_own_pairs() -> None:
    found, _ = overhead("divprune_by_frame", visual_keep_ratio=0.4)
    assert found == [4 * (25 * 25 * 64 + 10 * 25), 2 * (25 * 25 * 64 + 10 * 25)]


@pytest.mark.parametrize("window", [None, "frame", "segment", 7])
def test_window_sizes_are_those_of_the_windows(window: Any) -> None:
    view = whole_view()
    candidates = view.media & (torch.rand(view.alive.shape) > 0.3)
    windows = Windows.of(view, candidates, window, 0.3)
    sizes, quotas = window_sizes(view, candidates, window, 0.3)
    rows = windows.tokens[:, 0] // view.alive.shape[1]
    for row in range(2):
        mine = sizes[row][sizes[row] > 0]
        assert mine.tolist() == windows.sizes[rows == row].tolist()
        assert quotas[row][: len(mine)].tolist() == windows.quotas[rows == row].tolist()
        assert int(quotas[row].sum()) == int(windows.quotas[rows == row].sum())


def test_seats_costs_the_pairs_of_its_windows() -> None:
    found, _ = overhead("seats", visual_keep_ratio=0.25)
    view = whole_view()
    windows = time_windows(view)
    share, expected = schedule(0.25, LAYERS)[-1], [0, 0]
    for row in range(2):
        for kinds in ((Modality.VIDEO,), (Modality.AUDIO,)):
            mask = view.mask(*kinds)[row]
            sizes = torch.unique(windows[row][mask], return_counts=True)[1].tolist()
            total = max(1, round(share * sum(sizes)))
            kept = apportion([size / sum(sizes) for size in sizes], sizes, total)
            expected[row] += sum(n * n * 64 + k * n for n, k in zip(sizes, kept, strict=True))
    own = SeatsEntrance(0.25).choice_macs(view, view.alive, 64)
    assert own is not None and own.tolist() == expected
    assert all(a > b for a, b in zip(found, expected, strict=True))  # its stages read scores


def test_rows_of_few_media_cost_nothing() -> None:
    found, counts = overhead("divprune+fastav", global_rule="all", min_media_tokens=150)
    assert found[0] > 0 == found[1]
    plan = plan_prefill(FastAVConfig(min_media_tokens=150), PROMPTS, LAYERS, COST)
    assert COST.ratios(plan.counts[1], 129, plan.overhead[1]) == (1.0, 0.0)


METHODS = ["divprune", "divprune_by_frame", "seats_entrance", "scope", "cdpruner", "dart"]


@pytest.mark.parametrize("method", [*METHODS, "omnipack_entrance", "omnipack_diversity"])
@pytest.mark.parametrize("audio", [None, 0.3])
def test_a_hook_states_what_it_multiplies(
    method: str, audio: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch row alone: in a batch, groups are padded to the largest."""
    view = whole_view(PROMPTS.select(torch.tensor([0])))
    config = FastAVConfig(method=method, visual_keep_ratio=0.5, audio_keep_ratio=audio)
    (hook,) = method_hooks(config)
    assert isinstance(hook, PlannableHook)
    keep = hook(view)
    assert keep is not None
    stated = hook.choice_macs(view, keep, view.hidden_states.shape[-1])
    assert stated is not None
    pairs = hook.choice_macs(view, keep, 0)
    assert pairs is not None
    found = products_of(monkeypatch, lambda: hook(view))
    assert found == int((stated - pairs).sum())


@pytest.mark.parametrize("method", ["omnipack", "scope", "cdpruner", "dart+late_removal"])
def test_plans_and_rows_have_the_selectors_in_their_account(method: str) -> None:
    found, _ = overhead(method, visual_keep_ratio=0.4, audio_keep_ratio=0.3)
    assert found[0] > found[1] > 0
    assert overhead(method.partition("+")[0], visual_keep_ratio=1.0)[0] == (
        [0, 0] if method != "omnipack" else overhead("omnipack_diversity")[0]
    )


def test_nothing_is_counted_without_sizes() -> None:
    account = Account(None, 2)
    account.score(torch.tensor([3, 4]))
    account.roll(torch.tensor([3, 4]), 2)
    account.choose(torch.tensor([5, 6]))
    account.settle(torch.tensor([True, True]))
    assert account.macs.tolist() == [0, 0] and account.width is None


def test_counts_are_added_once() -> None:
    account = Account(COST, 2)
    account.score(torch.tensor([3, 4]))
    account.settle(torch.tensor([True, False]))
    account.settle(torch.tensor([True, True]))
    assert account.macs.tolist() == [3 * 48, 0]
