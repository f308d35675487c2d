"""Rankings against formulas computed token by token, and the hook that cuts by them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.lab.arenas.readings.attention_rows import AttentionRows
from fastav_plugin.lab.arenas.readings.rankings import (
    LAST,
    ORACLE,
    RANDOM,
    RANKINGS,
    SINKS,
    GivenRanking,
    Reading,
    near_penalised,
    top_share,
)
from tests.support.tiny_arena import LENGTH, MEDIA, TinyArena

N, CUT = 20, 7


def reading(seed: int = 0) -> Reading:
    draw = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    layers = [AttentionRows(*rand(5, N).unbind()) for _ in range(9)]
    evidence = torch.zeros(N, dtype=torch.bool)
    evidence[11:14] = True
    return Reading(layers, CUT, rand(9, N), evidence, rand(N))


def by_name(name: str) -> list[float]:
    return [float(x) for x in RANKINGS[name](reading())]


def test_rankings_of_the_layer_below() -> None:
    below = reading().layers[CUT - 1]
    assert by_name(LAST) == below.last.tolist()
    assert by_name("question's tokens, mean") == below.question.tolist()
    assert by_name("maximum over heads") == below.highest.tolist()
    assert by_name("times the value's norm") == below.valued.tolist()
    expected = [a - b for a, b in zip(below.last.tolist(), below.before.tolist(), strict=True)]
    assert by_name("less before the question") == pytest.approx(expected)


def test_sums_are_over_layers_below_the_cut() -> None:
    lasts = [each.last.tolist() for each in reading().layers]
    for name, first in (("sum over 5 layers", CUT - 5), ("sum over all layers below", 0)):
        expected = [sum(lasts[layer][token] for layer in range(first, CUT)) for token in range(N)]
        assert by_name(name) == pytest.approx(expected)


def test_sinks_are_those_of_all_questions() -> None:
    shared = reading().shared[CUT - 1].tolist()
    sinks = sorted(range(N), key=lambda token: -shared[token])[:SINKS]
    last = by_name(LAST)
    for name, value in ((f"{SINKS} sinks protected", 1), (f"{SINKS} sinks left out", -1)):
        expected = [value * float("inf") if i in sinks else last[i] for i in range(N)]
        assert by_name(name) == expected
    first = by_name(f"first {SINKS} protected")
    assert first == [float("inf")] * SINKS + last[SINKS:]


def test_neighbours_share_nine_tenths() -> None:
    last = by_name(LAST)
    expected = [
        max(last[i], *(0.9 * last[j] for j in range(N) if 0 < abs(i - j) <= 2)) for i in range(N)
    ]
    assert by_name("neighbours 2") == pytest.approx(expected)


def test_near_tokens_are_penalised_pick_by_pick() -> None:
    scores = [0.9, 0.8, 0.1, 0.5, 0.39, 0.0]
    # 0 first (1 falls to .4, 2 to .05), then 3 (4 to .195, 1 to .2, ...), then 1, 4, 2, 5.
    order = near_penalised(torch.tensor(scores)).tolist()
    assert order == [6.0, 4.0, 2.0, 5.0, 3.0, 1.0]
    assert sorted(near_penalised(torch.zeros(7)).tolist()) == list(range(1, 8))


def test_the_oracle_takes_the_answer_first_and_random_others() -> None:
    own = reading()
    kept = top_share(RANKINGS[ORACLE](own), 0.4)
    others = own.draw.masked_fill(own.evidence, -1).topk(5).indices
    assert set(kept.nonzero().flatten().tolist()) == {11, 12, 13, *others.tolist()}
    assert RANKINGS[RANDOM](own) is own.draw


@pytest.mark.parametrize(("ratio", "count"), [(0.1, 2), (0.01, 1), (0.126, 3), (1.0, 20)])
def test_so_many_are_kept_and_of_equal_ones_the_first(ratio: float, count: int) -> None:
    assert top_share(torch.ones(N), ratio).tolist() == [True] * count + [False] * (N - count)


def test_the_hook_keeps_what_is_best_in_the_given_order() -> None:
    arena = TinyArena.make()
    question = arena.questions(1, 0)[0]
    scores = torch.rand(LENGTH, generator=torch.Generator().manual_seed(1))
    cache = FastAVCache(FastAVConfig(hooks=[GivenRanking(0.1, 2, scores)]), tokens=question.tokens)
    run_once(arena.model, question.inputs, cache=cache)
    detach(arena.model)
    report = cache.report()
    media = range(*MEDIA)
    best = sorted(media, key=lambda position: -float(scores[position]))[: round(0.1 * len(media))]
    text = [position for position in range(LENGTH) if position not in media]
    assert report.kept_positions(1) == list(range(LENGTH))
    assert report.kept_positions(2) == report.kept_positions(3) == sorted([*text, *best])
