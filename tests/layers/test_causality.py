"""Masks that rollout may read, and those that it may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastav_plugin import UnsupportedError
from fastav_plugin.layers import causality
from fastav_plugin.layers.causality import refuse_other_attention, refuse_other_mask

LENGTH, PAST = 9, 4


def causal(valid: Tensor | None = None, past: int = 0) -> Tensor:
    """bool [B, 1, LENGTH, past + LENGTH], and a column that no token has, as of static caches."""
    mask = torch.ones(LENGTH, past + LENGTH, dtype=torch.bool).tril(past)[None, None]
    if valid is not None:
        mask = mask & torch.cat([valid.new_ones(len(valid), past), valid], dim=1)[:, None, None]
    return torch.nn.functional.pad(mask, (0, 1))


def additive(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


PADDED = torch.arange(LENGTH) >= torch.tensor([[0], [3]])


@pytest.mark.parametrize("form", [lambda mask: mask, additive])
@pytest.mark.parametrize("valid", [None, PADDED])
@pytest.mark.parametrize("past", [0, PAST])
@pytest.mark.parametrize("block", [2, 256])
def test_plain_causal_masks_pass(
    monkeypatch: pytest.MonkeyPatch, form: Any, valid: Tensor | None, past: int, block: int
) -> None:
    monkeypatch.setattr(causality, "_BLOCK", block)
    refuse_other_mask(form(causal(valid, past)), valid, None, past)
    refuse_other_mask(None, valid, None, past)
    refuse_other_mask(PADDED.long(), valid, None, past)


def test_what_padding_sees_does_not_matter() -> None:
    mask = causal(PADDED)
    mask[1, :, :3] = True
    refuse_other_mask(mask, PADDED, None, 0)


def later(mask: Tensor) -> Tensor:
    mask[..., 4, 6] = True
    return mask


def hidden(mask: Tensor) -> Tensor:
    mask[..., -2, 5] = False
    return mask


def biased(mask: Tensor) -> Tensor:
    found = additive(mask)
    found[..., 5, 2] = -0.5
    return found


@pytest.mark.parametrize("change", [later, hidden, biased])
@pytest.mark.parametrize("block", [2, 256])
def test_one_other_entry_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Any, block: int
) -> None:
    monkeypatch.setattr(causality, "_BLOCK", block)
    with pytest.raises(UnsupportedError, match="plain causal attention"):
        refuse_other_mask(change(causal(PADDED)), PADDED, None, 0)


def test_a_mask_that_cannot_be_read() -> None:
    with pytest.raises(UnsupportedError, match="a mask of type list"):
        refuse_other_mask([1, 0], None, None, 0)


class Both(nn.Module):
    is_causal = False


def test_layers_that_attend_otherwise() -> None:
    refuse_other_attention("sdpa", [nn.Linear(1, 1)], [None, LENGTH], LENGTH)
    with pytest.raises(UnsupportedError, match="flex_attention"):
        refuse_other_attention("flex_attention", [], [], LENGTH)
    with pytest.raises(UnsupportedError, match=f"{LENGTH} positions.* window of 8"):
        refuse_other_attention("sdpa", [], [None, 8, 20], LENGTH)
    with pytest.raises(UnsupportedError, match="causal attention, and Both"):
        refuse_other_attention("eager", [nn.Linear(1, 1), Both()], [None], LENGTH)
