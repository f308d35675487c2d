"""Pruning of both models, read from the authors' layout, against the stock forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from tests.model_overrides.video_salmonn2.families import FAMILIES
from tests.support.cases import (
    METHODS,
    assert_close,
    check_fine_cut,
    config_of,
    keep_all_config,
    prune,
    pruned,
    reference,
    rows_of,
    stock,
)
from tests.support.oracle import STEPS, run

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)


def _cases() -> Iterator[tuple[str, str, str]]:
    for name in FAMILIES:
        for shape in ("single", "ragged", "level", "lopsided"):
            yield name, "sdpa", shape
        yield name, "eager", "ragged"


each_case = pytest.mark.parametrize(("name", "attention", "shape"), list(_cases()))


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@each_case
def test_keep_all_is_bit_identical(name: str, attention: str, shape: str, how: str) -> None:
    kept = prune(name, attention, rows_of(name, shape), keep_all_config(name, how))
    expected = stock(name, attention, shape)
    assert torch.equal(kept.run.tokens, expected.tokens)
    assert torch.equal(kept.run.logits, expected.logits)


@each_method
@each_case
def test_pruned_equals_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    result = pruned(name, attention, shape, method)
    expected = reference(name, attention, rows_of(name, shape), result)
    assert result.run.logits.shape[0] == STEPS
    assert_close(result.run.logits, expected.logits)


@each_method
@each_family
def test_a_dense_answer_would_be_far_off(name: str, method: str) -> None:
    first = pruned(name, "sdpa", "ragged", method).run.logits[0, 0]
    assert (first - stock(name, "sdpa", "ragged").logits[0, 0]).abs().max() > 0.05


@each_method
@each_family
def test_row_alone_equals_row_in_batch(name: str, method: str) -> None:
    together = pruned(name, "sdpa", "ragged", method)
    for index, item in enumerate(rows_of(name, "ragged")):
        tokens = together.run.tokens[index : index + 1]
        alone = prune(name, "sdpa", [item], config_of(name, method), forced=tokens)
        assert_close(together.run.logits[:, index : index + 1], alone.run.logits)
        for layer, mine in zip(together.held, alone.held, strict=True):
            assert layer[index, -len(item) :].tolist() == mine[0].tolist()


@each_family
def test_the_fine_cut_keeps_what_is_attended_to(name: str) -> None:
    check_fine_cut(name, rows_of(name, "ragged"), pruned(name, "sdpa", "ragged", "fastav"))


@each_family
def test_the_global_cut_keeps_frames_with_their_sound(name: str) -> None:
    """Exactly the media rows of the first two frames enter the middle layer."""
    items = rows_of(name, "ragged")
    held = pruned(name, "sdpa", "ragged", "fastav").held[3]
    for row, item in zip(held, items, strict=True):
        kept = row[-len(item) :].tolist()
        assert kept == [frame < 2 for frame in item.frames]


@pytest.mark.parametrize("beams", [1, 3])
@each_family
def test_beams_see_their_own_rows_media(name: str, beams: int) -> None:
    """Rows repeated for beams keep clip and sound together: the batch answers as its rows do."""
    family, rows = FAMILIES[name], rows_of(name, "ragged")
    model = family.model()
    options: dict[str, Any] = {"num_beams": beams, "steps": 3}
    together = run(model, family.batch(rows), **options).tokens
    cut = run(model, family.batch(rows), FastAVCache(config_of(name, "fastav")), **options).tokens
    detach(model)
    for index, item in enumerate(rows):
        alone = run(model, family.batch([item]), **options).tokens
        assert together[index].tolist() == alone[0].tolist()
        cache = FastAVCache(config_of(name, "fastav"))
        assert (
            cut[index].tolist()
            == run(model, family.batch([item]), cache, **options).tokens[0].tolist()
        )
        detach(model)


@each_family
def test_the_default_rule_is_the_papers(name: str) -> None:
    """Four frames with their sound; at the middle layer; a fifth of the rest at each later one."""
    config = FastAVConfig.for_model(FAMILIES[name].config())
    rules = config.rules()
    assert rules["video"] == rules["audio"] == "first 4 frames"
    assert (config.global_layer, config.fine_drop_ratio) == (None, 0.2)


@each_family
def test_attach_prunes_and_detach_restores(name: str) -> None:
    family, rows = FAMILIES[name], rows_of(name, "ragged")
    model = family.model()
    expected = pruned(name, "sdpa", "ragged", "fastav").run
    try:
        attach(model, config_of(name, "fastav"))
        assert torch.equal(run(model, family.batch(rows)).logits, expected.logits)
    finally:
        detach(model)
    assert torch.equal(run(model, family.batch(rows)).logits, stock(name, "sdpa", "ragged").logits)


@each_family
def test_a_direct_call_equals_generate(name: str) -> None:
    """Raw media in forward(), positions and all, give the logits of generate's prefill."""
    family, rows = FAMILIES[name], rows_of(name, "single")
    with torch.no_grad():
        logits = family.model()(**family.batch(rows)).logits[:, -1]
    assert_close(logits, stock(name, "sdpa", "single").logits[0])
