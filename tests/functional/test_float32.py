"""Products keep all digits of float32, whatever the process or the caller asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import float32
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.functional.float32 import DEPTH, inner_products, pack
from fastav_plugin.functional.rollout import rollout_row
from fastav_plugin.functional.scores import query_scores
from tests.functional.test_diversity import clusters


@pytest.mark.parametrize("width", [1, DEPTH - 1, DEPTH, DEPTH + 1, 3 * DEPTH + 7])
@pytest.mark.parametrize("fast", [True, False])
def test_products(monkeypatch: pytest.MonkeyPatch, width: int, fast: bool) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: fast)
    rows, columns = clusters(9, width), clusters(5, width)
    found = inner_products(pack(rows), pack(columns))
    assert found.dtype == torch.float32 and not found.is_mkldnn
    expected = rows.double() @ columns.double().T
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6 * width)


@pytest.mark.parametrize("switch", ["allow_tf32", "medium", "fp32_precision", "off"])
def test_tf32_of_the_process_is_left_outside_and_comes_back(switch: str) -> None:
    """Said for GPUs by switches that any machine has; both kinds can be read inside."""
    matmul: Any = torch.backends.cuda.matmul
    onednn: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]

    def said() -> list[str]:
        found = [matmul.fp32_precision, onednn.fp32_precision]
        try:
            return [*found, torch.get_float32_matmul_precision(), str(matmul.allow_tf32)]
        except RuntimeError:
            return found

    try:
        if switch == "allow_tf32":
            matmul.allow_tf32 = True
        elif switch == "medium":
            torch.set_float32_matmul_precision("medium")
        elif switch == "fp32_precision":
            matmul.fp32_precision = "tf32"
        before = said()
        with float32._no_tf32("cuda"), float32._no_tf32("cuda"):
            assert matmul.fp32_precision in ("ieee", "none")
            assert said()[2:] == ["highest", "False"]
        with float32._no_tf32("cpu"):
            assert said() == before
        assert said() == before
    finally:
        matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


def test_autocast_of_the_caller_is_left_outside() -> None:
    """Redundant features in bfloat16 would give other picks, and some twice."""
    features = clusters(300, 64)
    draw = torch.Generator().manual_seed(0)
    query, keys = torch.randn(1, 4, 8, generator=draw), torch.randn(1, 2, 9, 8, generator=draw)

    def results() -> list[Tensor]:
        return [
            max_min_diversity(features, 100),
            query_scores(query, keys, scaling=1),
            query_scores(query, keys.bfloat16(), scaling=1),
            rollout_row(torch.ones(9), [keys[0]], [keys[0]]),
        ]

    expected = results()
    with torch.autocast("cpu", torch.bfloat16):
        assert (features @ features.T).dtype == torch.bfloat16
        for found, right in zip(results(), expected, strict=True):
            assert torch.equal(found, right)
