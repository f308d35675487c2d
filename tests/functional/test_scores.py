"""Scores against softmax written out in float64, in every form that a mask takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import scores
from fastav_plugin.functional.scores import query_scores

BATCH, HEADS, GROUPS, TOKENS, SIZE = 2, 6, 3, 11, 8


def query_and_keys(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(BATCH, HEADS, SIZE, generator=draw)
    return query.to(dtype), torch.randn(BATCH, GROUPS, TOKENS, SIZE, generator=draw).to(dtype)


def written_out(
    query: Tensor, keys: Tensor, scaling: float, mask: Tensor | None, softcap: float | None
) -> Tensor:
    repeated = keys.double().repeat_interleave(HEADS // GROUPS, dim=1)
    logits = (query.double()[:, :, None] * repeated).sum(-1) * scaling
    if softcap is not None:
        logits = softcap * (logits / softcap).tanh()
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return logits.softmax(-1).mean(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_mean_over_heads(dtype: torch.dtype, softcap: float | None, hidden: bool) -> None:
    query, keys = query_and_keys(dtype)
    mask = None
    if hidden:
        mask = torch.ones(BATCH, 1, TOKENS, dtype=torch.bool)
        mask[0, 0, :4] = False
        mask[1, 0, -1] = False
    found = query_scores(query, keys, scaling=0.3, mask=mask, softcap=softcap)
    assert found.dtype == torch.float32
    expected = written_out(query, keys, 0.3, mask, softcap)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(BATCH))
    if mask is not None:
        assert (found[~mask[:, 0]] == 0).all()
        assert (found[mask[:, 0]] > 0).all()


@pytest.mark.parametrize("per_head", [False, True])
def test_masks_that_are_added_hide_as_much(per_head: bool) -> None:
    query, keys = query_and_keys()
    visible = torch.rand(BATCH, HEADS if per_head else 1, TOKENS) > 0.3
    visible[..., 0] = True
    added = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    found = query_scores(query, keys, scaling=0.3, mask=added)
    torch.testing.assert_close(found, query_scores(query, keys, scaling=0.3, mask=visible))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    query, keys = query_and_keys(dtype)
    expected = query_scores(query, keys, scaling=0.3)
    monkeypatch.setattr(scores, "BLOCK", 3 * BATCH * GROUPS * SIZE)  # three keys at a time
    torch.testing.assert_close(query_scores(query, keys, scaling=0.3), expected)
    monkeypatch.setattr(scores, "BLOCK", 1)
    torch.testing.assert_close(query_scores(query, keys, scaling=0.3), expected)


def test_no_gradients_are_kept() -> None:
    query, keys = query_and_keys()
    assert not query_scores(query.requires_grad_(), keys.requires_grad_(), scaling=1).requires_grad
