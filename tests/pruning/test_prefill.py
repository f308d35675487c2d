"""Prompts of every shape through a real tiny model: who stays, in what order, and why not."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap, detach
from tests.support.cache_names import passing
from tests.support.small_models import config, generate, prompt, qwen2, same
from tests.support.views import AUDIO, PAD, TEXT, VIDEO

LAYERS = 6


@cache
def model() -> Any:
    return qwen2(num_hidden_layers=LAYERS)


def as_map(kinds: list[list[int]]) -> TokenMap:
    modality = torch.tensor(kinds, dtype=torch.uint8)
    unknown = torch.full(modality.shape, -1)
    return TokenMap(modality, unknown, unknown)


def prefill(kinds: list[list[int]], **changes: Any) -> Any:
    """A FastAVCache filled with a left-padded batch of these kinds of tokens."""
    tokens = as_map(kinds)
    past = FastAVCache(config(**changes), tokens)
    with torch.inference_mode():
        out = model()(
            input_ids=prompt(1, tokens.rows, tokens.length),
            attention_mask=tokens.valid.long(),
            **passing(past),
            logits_to_keep=1,
        )
    assert torch.isfinite(out.logits).all()
    return past


def expected_counts(row: list[int], first: int, ratio: float) -> list[int]:
    """Real tokens of each layer: "first N tokens" of audio at layer 3, then the fine cut."""
    audio, video = row.count(AUDIO), row.count(VIDEO)
    text = row.count(TEXT)
    counts = [text + audio + video] * 3
    if audio + video == 0:
        return [text] * LAYERS
    # The last token always goes on, whatever it is, and so does one media token.
    last_is_late_audio = row[-1] == AUDIO and audio > first
    media = video + min(audio, first) + last_is_late_audio
    media = max(media, 1)
    counts.append(text + media)
    for _ in range(2):
        kept = math.floor((1 - ratio) * media)
        counts.append(text + kept)
        media = kept
    return counts


def check_layers(past: Any, kinds: list[list[int]]) -> None:
    for layer in past.layers:
        valid = torch.ones_like(layer.positions) if layer.valid is None else layer.valid
        assert layer.keys.shape[-2] == layer.positions.shape[1]
        for row, positions, real in zip(kinds, layer.positions, valid.bool(), strict=True):
            found = positions[real]
            assert (positions[~real] == -1).all()
            assert (found.diff() > 0).all(), "ascending and unique"
            assert found[-1] == len(row) - 1, "the last token"
            text = [place for place, kind in enumerate(row) if kind == TEXT]
            assert set(text) <= set(found.tolist()), "all text"
            assert all(row[place] != PAD for place in found.tolist())
            assert real[-len(found) :].all(), "right-aligned"


kinds_of_one = st.lists(st.sampled_from([TEXT, VIDEO, AUDIO]), min_size=1, max_size=24)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(kinds_of_one, min_size=1, max_size=3),
    first=st.integers(0, 5),
    ratio=st.sampled_from([0.0, 0.2, 0.3]),
)
def test_property_any_prompt(rows: list[list[int]], first: int, ratio: float) -> None:
    rows = [[*row, TEXT] for row in rows]  # a prompt ends in text
    length = max(map(len, rows))
    kinds = [[PAD] * (length - len(row)) + row for row in rows]
    past = prefill(kinds, global_rule={"audio": f"first {first} tokens"}, fine_drop_ratio=ratio)
    check_layers(past, kinds)
    found = past.report(row=None).tokens_per_layer
    for row, counts in zip(rows, found, strict=True):
        expected = expected_counts(row, first, ratio)
        # Where one media token is all there is, it is protected from the fine cut.
        media = any(kind != TEXT for kind in row)
        text = row.count(TEXT)
        assert counts == [max(count, text + media) for count in expected]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(kinds_of_one, min_size=1, max_size=3),
    method=st.sampled_from(["fastav", "divprune", "fastav+divprune"]),
)
def test_property_prompts_that_end_in_media(rows: list[list[int]], method: str) -> None:
    length = max(map(len, rows))
    kinds = [[PAD] * (length - len(row)) + row for row in rows]
    past = prefill(
        kinds, method=method, global_rule="below 4", visual_keep_ratio=0.3, audio_keep_ratio=0.3
    )
    check_layers(past, kinds)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("method", ["fastav", "divprune", "fastav+divprune"])
def test_shallow_models(layers: int, method: str) -> None:
    shallow = qwen2(num_hidden_layers=layers)
    tokens = TokenMap.from_spans(30, video=[(3, 20)], audio=[(20, 26)])
    past = FastAVCache(config(method=method, global_rule="below 9"), tokens)
    out = generate(shallow, prompt(), past)
    assert torch.isfinite(torch.stack(out.logits)).all()
    assert past.report().flops_ratio < 1


REASONS = [
    (FastAVConfig(method="none"), TokenMap.from_spans(30, video=[(3, 17)]), "none"),
    (FastAVConfig(), TokenMap.from_spans(30), "no media"),
    (FastAVConfig(), TokenMap.from_spans(30, video=[(3, 17)]), "min_media_tokens"),
    (FastAVConfig(min_media_tokens=15), TokenMap.from_spans(30, video=[(3, 17)]), "15"),
]


@pytest.mark.parametrize(("settings_", "tokens", "why"), REASONS)
def test_when_nothing_is_cut_the_report_says_why(
    settings_: FastAVConfig, tokens: TokenMap, why: str
) -> None:
    past = FastAVCache(settings_, tokens)
    out = generate(model(), prompt(), past)
    report = past.report()
    assert report.reason is not None
    assert why in report.reason
    assert report.flops_ratio == 1
    assert report.tokens_per_layer == [30] * LAYERS
    rows: list[Any] = [layer.keys for layer in past.fastav_request.layers]
    assert report.kv_bytes == report.dense_kv_bytes == 2 * sum(keys.nbytes for keys in rows)
    memory = 2 * sum(keys.untyped_storage().nbytes() for keys in rows)
    assert report.kv_bytes + report.kv_reserve_bytes == memory
    detach(model())
    assert same(out, generate(model(), prompt()))


def test_exactly_the_minimum_is_cut() -> None:
    tokens = TokenMap.from_spans(30, video=[(3, 17)])
    past = FastAVCache(FastAVConfig(min_media_tokens=14, global_rule="below 5"), tokens)
    generate(model(), prompt(), past)
    assert past.report().reason is None
    assert past.report().flops_ratio < 1


def test_the_minimum_counts_each_row_of_the_batch_by_itself() -> None:
    kinds = [[TEXT] * 2 + [VIDEO] * 10 + [TEXT] * 2, [TEXT] * 9 + [VIDEO] * 3 + [TEXT] * 2]
    past = prefill(kinds, min_media_tokens=5, global_rule="below 4")
    report = past.report(row=None)
    assert report.tokens_per_layer[0][3] == 6
    assert report.tokens_per_layer[1] == [14] * LAYERS


def test_a_rule_that_keeps_all_cuts_nothing() -> None:
    tokens = TokenMap.from_spans(30, video=[(3, 17)])
    past = FastAVCache(config(global_rule="below 17", fine_drop_ratio=0), tokens)
    out = generate(model(), prompt(), past)
    assert past.report().flops_ratio == 1
    detach(model())
    assert same(out, generate(model(), prompt()))
