"""FastAVCache's surface, before and after it is bound."""

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    StateError,
    TokenMap,
    UnsupportedError,
    detach,
)
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.small_models import COUNTS, LENGTH, cache, config, generate, prompt, qwen2, same
from tests.support.small_models import tokens as prompt_map


@pytest.fixture(scope="module")
def model() -> Any:
    return qwen2()


def prefilled(model: Any, ids: Tensor | None = None, past: Any = None) -> Any:
    past = cache() if past is None else past
    with torch.inference_mode():
        model(input_ids=prompt() if ids is None else ids, **passing(past))
    return past


def decode(model: Any, past: Any, steps: int = 3, first: int = 11) -> Tensor:
    """Logits of the next steps, every token given: [B, steps, V]."""
    found = []
    with torch.inference_mode():
        for step in range(steps):
            ids = torch.full((past.batch_size, 1), first + step)
            found.append(model(input_ids=ids, **passing(past)).logits)
    return torch.cat(found, dim=1)


def test_before_binding() -> None:
    past = cache()
    assert len(past) == 0
    assert past.get_seq_length() == 0
    assert past.get_seq_length(3) == 0
    assert past.get_mask_sizes(7, 0) == (7, 0)
    assert past.get_mask_sizes(7, 3) == (7, 0)
    assert past.get_query_offset() == 0
    assert past.get_max_length() == -1
    assert past.get_max_length(0) == -1
    assert past.is_compileable is False
    assert past.is_croppable is True
    assert past.is_initialized is False
    assert past.is_sliding == []
    assert past.batch_size == -1
    assert past.token_map is None
    assert past.config.min_media_tokens == 1
    past.crop(-2)
    past.crop(0)
    past.reorder_cache(torch.tensor([0]))
    past.batch_repeat_interleave(2)
    past.batch_select_indices(torch.tensor([0]))
    past.activate_past_recording()
    past.reset()
    assert "FastAVCache" in repr(past)


def test_after_prefill(model: Any) -> None:
    past = prefilled(model)
    assert len(past) == 4
    assert [layer.keys.shape[-2] for layer in past.layers] == COUNTS
    for layer in range(4):
        assert past.get_seq_length(layer) == LENGTH
        assert past.get_mask_sizes(1, layer) == (LENGTH + 1, 0)
        assert past.get_query_offset(layer) == LENGTH
    assert past.get_max_length() == -1
    assert past.is_compileable is False
    assert past.is_croppable is True
    assert past.is_initialized is True
    assert past.is_sliding == [False] * 4
    assert past.batch_size == 1
    assert past.token_map is not None
    assert torch.equal(past.token_map.modality, prompt_map().modality)
    assert past.report().tokens_per_layer == COUNTS
    decode(model, past, 2)
    assert past.get_seq_length() == LENGTH + 2
    assert [layer.keys.shape[-2] for layer in past.layers] == [n + 2 for n in COUNTS]
    assert past.report().tokens_per_layer == COUNTS


@pytest.mark.parametrize("bound", [False, True])
def test_what_is_refused(model: Any, bound: bool) -> None:
    past = prefilled(model) if bound else cache()
    with pytest.raises(UnsupportedError, match="early"):
        past.early_initialization(1, 2, 8, torch.float32, torch.device("cpu"))
    with pytest.raises(UnsupportedError, match="offload"):
        past.offload(0)
    rows = torch.zeros(1, 2, 1, 8)
    with pytest.raises(StateError, match="attach"):
        past.update(rows, rows, 0)


def test_the_report_needs_a_prefill(model: Any) -> None:
    past = cache()
    with pytest.raises(StateError, match="prefill"):
        past.report()
    prefilled(model, past=past)
    past.reset()
    with pytest.raises(StateError, match="prefill"):
        past.report()


def test_kv_bytes_are_the_ones_held(model: Any) -> None:
    past = prefilled(model)
    report = past.report()
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
    assert report.kv_bytes == held
    assert report.dense_kv_bytes == 4 * 2 * 2 * 8 * 4 * LENGTH
    assert report.kv_bytes / report.dense_kv_bytes == pytest.approx(sum(COUNTS) / 4 / LENGTH)


@pytest.mark.parametrize("wrong", ["fastav", {}, 3, object()])
def test_wrong_arguments(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="FastAVConfig"):
        FastAVCache(wrong)
    with pytest.raises(ConfigError, match="TokenMap"):
        FastAVCache(FastAVConfig(), wrong)


def test_crop_takes_decoded_rows_back(model: Any) -> None:
    past = prefilled(model)
    expected = decode(model, copy.deepcopy(past), 3)
    decode(model, past, 4, first=60)
    past.crop(-4)
    assert past.get_seq_length() == LENGTH
    assert torch.equal(decode(model, past, 3), expected)


def test_crop_into_the_pruned_prompt_is_refused_and_changes_nothing(model: Any) -> None:
    past = prefilled(model)
    decode(model, past, 2)
    untouched = copy.deepcopy(past)
    with pytest.raises(StateError, match="pruned"):
        past.crop(-20)
    assert [past.get_seq_length(layer) for layer in range(4)] == [LENGTH + 2] * 4
    assert torch.equal(decode(model, past), decode(model, untouched))


def test_crop_refuses_positive_numbers(model: Any) -> None:
    past = prefilled(model)
    with pytest.raises((StateError, ValueError), match="negative"):
        past.crop(12)
    assert past.get_seq_length() == LENGTH


def batch(model: Any) -> tuple[Any, Tensor]:
    """Two left-padded prompts, the second shorter and without audio."""
    ids = prompt(seed=4, batch=2)
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    maps = [prompt_map(), TokenMap.from_spans(LENGTH - 6, video=[(2, 12)])]
    past = FastAVCache(config(global_rule="below 9"), TokenMap.batch(maps))
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=mask, **passing(past))
    return past, mask


def row_state(past: Any, row: int) -> list[Tensor]:
    """All that a cache knows of one batch row."""
    assert past.token_map is not None
    found = [past.token_map.modality[row], past.token_map.segment[row], past.token_map.frame[row]]
    for layer in past.layers:
        valid = torch.ones_like(layer.positions) if layer.valid is None else layer.valid
        found += [layer.keys[row], layer.values[row], layer.positions[row], valid[row]]
    return found


def check_rows(past: Any, before: Any, rows: list[int]) -> None:
    assert past.batch_size == len(rows)
    assert past.token_map is not None
    assert past.token_map.rows == len(rows)
    for row, source in enumerate(rows):
        pairs = zip(row_state(past, row), row_state(before, source), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)
    assert past.report(row=None).tokens_per_layer == [
        before.report(row=source).tokens_per_layer for source in rows
    ]


@pytest.mark.parametrize(
    ("operation", "argument", "rows"),
    [
        ("reorder_cache", torch.tensor([1, 0]), [1, 0]),
        ("reorder_cache", torch.tensor([1, 1]), [1, 1]),
        ("batch_repeat_interleave", 3, [0, 0, 0, 1, 1, 1]),
        ("batch_select_indices", torch.tensor([1]), [1]),
        ("batch_select_indices", torch.tensor([0, 1, 0]), [0, 1, 0]),
    ],
)
def test_row_operations_move_everything(
    model: Any, operation: str, argument: Any, rows: list[int]
) -> None:
    past, mask = batch(model)
    before = copy.deepcopy(past)
    getattr(past, operation)(argument)
    check_rows(past, before, rows)
    # And a decode step of the moved rows is the decode step of the rows they were.
    ids = torch.tensor([[11], [12]])
    grown = torch.nn.functional.pad(mask, (0, 1), value=1)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=grown, **passing(before)).logits
        moved = model(input_ids=ids[rows], attention_mask=grown[rows], **passing(past)).logits
    torch.testing.assert_close(moved, expected[rows], rtol=0, atol=1e-5)


def test_both_deep_copies_decode_and_the_model_is_not_copied(model: Any) -> None:
    past = prefilled(model)
    expected = decode(model, prefilled(model), 4)
    modules = sum(type(item) is torch.nn.Linear for item in gc.get_objects())
    twin = copy.deepcopy(past)
    gc.collect()
    assert sum(type(item) is torch.nn.Linear for item in gc.get_objects()) <= modules
    first, other = decode(model, past, 2), decode(model, twin, 2, first=40)
    assert not torch.allclose(first, other)
    rest = decode(model, past, 2, first=13)
    assert torch.equal(torch.cat([first, rest], dim=1), expected)
    assert twin.report().tokens_per_layer == past.report().tokens_per_layer
    assert twin.get_seq_length() == LENGTH + 2


def test_a_deep_copy_of_an_unused_cache_is_an_unused_cache(model: Any) -> None:
    past = cache()
    twin = copy.deepcopy(past)
    expected = generate(model, prompt(), cache())
    for item in (twin, past):
        assert same(generate(model, prompt(), item), expected)
        assert item.report().tokens_per_layer == COUNTS


def test_prefix_reuse(model: Any) -> None:
    """The documented pattern: fill a cache once, copy it for every question."""
    prefix = prefilled(model)
    questions = [prompt(seed, length=6) for seed in (8, 9)]
    for question in questions:
        ids = torch.cat([prompt(), question], dim=1)
        out = generate(model, ids, copy.deepcopy(prefix), new=3)
        again = generate(model, ids, copy.deepcopy(prefix), new=3)
        assert same(out, again)
        assert cache_in(out).get_seq_length() == LENGTH + 6 + 2
    assert prefix.get_seq_length() == LENGTH


def test_reset_allows_the_same_model_again(model: Any) -> None:
    past = cache()
    expected = generate(model, prompt(), past)
    past.reset()
    assert past.get_seq_length() == 0
    assert past.batch_size == -1
    assert not past.is_initialized
    assert same(generate(model, prompt(), past), expected)
    assert past.report().tokens_per_layer == COUNTS


def test_reset_allows_another_model(model: Any) -> None:
    past = cache()
    generate(model, prompt(), past)
    other = qwen2(seed=1, num_hidden_layers=6)
    past.reset()
    out = generate(other, prompt(), past)
    assert same(out, generate(other, prompt(), cache()))
    assert len(past) == 6


def test_reset_finds_a_model_that_was_detached(model: Any) -> None:
    past = cache()
    expected = generate(model, prompt(), past)
    detach(model)
    past.reset()
    assert same(generate(model, prompt(), past), expected)


def test_a_used_cache_of_another_prompt_is_not_pruned_again(model: Any) -> None:
    """Rows of a later turn are appended uncut."""
    past = prefilled(model)
    question = prompt(3, length=5)
    with torch.inference_mode():
        model(input_ids=question, **passing(past))
    assert [layer.keys.shape[-2] for layer in past.layers] == [n + 5 for n in COUNTS]
    assert past.report().tokens_per_layer == COUNTS
    assert past.layers[3].positions[0, -5:].tolist() == list(range(LENGTH, LENGTH + 5))


def test_activate_past_recording_changes_nothing(model: Any) -> None:
    past = cache()
    past.activate_past_recording()
    assert same(generate(model, prompt(), past), generate(model, prompt(), cache()))
