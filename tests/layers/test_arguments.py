"""Arguments of a layer, cut to the survivors."""

from typing import Any

import pytest
import torch

from fastav_plugin import UnsupportedError
from fastav_plugin.layers.arguments import cut_rotary, gather

INDEX = torch.tensor([[0, 2, 3, 5], [0, 0, 4, 5]])


@pytest.mark.parametrize("dim", [1, 2, -2])
@pytest.mark.parametrize("shared", [False, True])
def test_gather(dim: int, shared: bool) -> None:
    tensor = torch.randn(1 if shared else 2, 6, 6, 3)
    result = gather(tensor, INDEX, dim)
    for row in range(2):
        source = tensor[0 if shared else row]
        expected = source.index_select((dim % 4) - 1, INDEX[row])
        assert torch.equal(result[row], expected)


def test_gather_of_one_batch_row() -> None:
    tensor = torch.randn(1, 6, 3)
    assert torch.equal(gather(tensor, INDEX[:1], 1), tensor[:, [0, 2, 3, 5]])


def test_rotary_in_any_nesting() -> None:
    cos, sin = torch.randn(2, 6, 4), torch.randn(1, 6, 4)
    local = {"full": (cos, sin), "none": None, "list": [sin]}
    result = cut_rotary(local, INDEX)
    assert isinstance(result["full"], tuple)
    assert isinstance(result["list"], list)
    assert result["none"] is None
    assert torch.equal(result["full"][0][1], cos[1, INDEX[1]])
    assert torch.equal(result["full"][1][1], sin[0, INDEX[1]])
    sections = torch.randn(3, 2, 6, 4)
    assert cut_rotary(torch.randn(2, 1, 6, 4), INDEX).shape == (2, 1, 4, 4)
    with pytest.raises((UnsupportedError, IndexError, RuntimeError)):
        cut_rotary(sections, INDEX)


@pytest.mark.parametrize("wrong", [torch.randn(6, 4), "rotary", 3])
def test_rotary_of_an_unknown_kind_is_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedError, match="position embeddings"):
        cut_rotary(wrong, INDEX)
