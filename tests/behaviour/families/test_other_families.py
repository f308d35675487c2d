"""Text models without an override of their own, with a TokenMap of the caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.behaviour.families.text_models import OTHERS
from tests.support.cases import (
    assert_close,
    check_fine_cut,
    config_of,
    keep_all_config,
    prune,
    reference,
    rows_of,
    stock,
)

#: Without torch's own attention for them.
EAGER_ONLY = {"gemma2_text"}


def _cases() -> Iterator[tuple[str, str, str]]:
    for name in OTHERS:
        yield name, "eager" if name in EAGER_ONLY else "sdpa", "ragged"
        yield name, "eager", "level"


each_case = pytest.mark.parametrize(("name", "attention", "shape"), list(_cases()))


@pytest.mark.parametrize("method", ["fastav", "divprune"])
@each_case
def test_pruned_equals_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    items = rows_of(name, shape)
    result = prune(name, attention, items, config_of(name, method))
    assert int(result.held[-1][0].sum()) < len(items[0])
    assert_close(result.run.logits, reference(name, attention, items, result).logits)
    if method == "fastav":
        check_fine_cut(name, items, result)


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@each_case
def test_keep_all(name: str, attention: str, shape: str, how: str) -> None:
    """Bit-identical."""
    kept = prune(name, attention, rows_of(name, shape), keep_all_config(name, how))
    assert torch.equal(kept.run.logits, stock(name, attention, shape).logits)
