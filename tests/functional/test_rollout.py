import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastav_plugin import ConfigError
from fastav_plugin.functional.rollout import BLOCK, rollout_row

LENGTHS = [1, 2, 17, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5]


def attention(query: Tensor, key: Tensor, valid: Tensor | None, scaling: float) -> Tensor:
    """Head mean of one layer's causal attention, by the definition: [B, n, n] in float64."""
    batch, heads, length, _ = query.shape
    key = key.double().repeat_interleave(heads // key.shape[1], dim=1)
    logits = query.double() @ key.transpose(-1, -2) * scaling
    visible = torch.ones(length, length).tril().bool().expand(batch, 1, length, length)
    if valid is not None:
        visible = visible & valid[:, None, None, :]
        itself = torch.eye(length).bool()
        visible = torch.where(valid[:, None, :, None], visible, itself)
    return logits.masked_fill(~visible, float("-inf")).softmax(dim=-1).mean(dim=1)


def explicit(
    row: Tensor, queries: list[Tensor], keys: list[Tensor], alpha: float, valid: Tensor | None
) -> Tensor:
    """`row @ R` with R multiplied out."""
    length = row.shape[-1]
    product = torch.eye(length, dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        layer = attention(query, key, valid, query.shape[-1] ** -0.5)
        layer = alpha * layer + (1 - alpha) * torch.eye(length, dtype=torch.float64)
        product = layer @ product
    return (row.double()[:, None] @ product)[:, 0]


def layers(
    count: int, batch: int, heads: int, groups: int, length: int, size: int = 8
) -> tuple[list[Tensor], list[Tensor]]:
    draw = torch.Generator().manual_seed(length * 31 + heads)
    queries = [torch.randn(batch, heads, length, size, generator=draw) * 2 for _ in range(count)]
    keys = [torch.randn(batch, groups, length, size, generator=draw) * 2 for _ in range(count)]
    return queries, keys


def left_padding(batch: int, length: int) -> Tensor:
    """Row b has b pads on the left, as long as a real token remains."""
    pads = torch.arange(batch).clamp(max=length - 1) * 3 % max(1, length)
    return torch.arange(length) >= pads[:, None]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_the_explicit_product(length: int, padded: bool, groups: int) -> None:
    queries, keys = layers(3, 2, 4, groups, length)
    valid = left_padding(2, length) if padded else None
    row = torch.rand(2, length, generator=torch.Generator().manual_seed(1))
    if valid is not None:
        row = row * valid
    result = rollout_row(row, queries, keys, valid=valid)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), explicit(row, queries, keys, 0.5, valid), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1])
def test_one_hot_rows_are_the_rows_of_the_product(length: int) -> None:
    queries, keys = layers(2, 1, 2, 1, length)
    for place in (0, length // 2, length - 1):
        row = torch.nn.functional.one_hot(torch.tensor([place]), length).float()
        expected = explicit(row, queries, keys, 0.3, None)
        result = rollout_row(row, queries, keys, 0.3)
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)
        assert result[0, place + 1 :].abs().sum() == 0
        assert float(result.sum()) == pytest.approx(1, abs=1e-5)


def test_the_order_of_the_layers_matters_and_is_lowest_first() -> None:
    queries, keys = layers(2, 1, 2, 2, 9)
    row = torch.nn.functional.one_hot(torch.tensor([8]), 9).float()
    swapped = rollout_row(row, queries[::-1], keys[::-1])
    assert not torch.allclose(swapped, rollout_row(row, queries, keys), atol=1e-3)
    torch.testing.assert_close(
        swapped.double(), explicit(row, queries[::-1], keys[::-1], 0.5, None), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("shape", ["flat", "batched row", "shared row"])
def test_shapes(shape: str) -> None:
    queries, keys = layers(2, 3, 4, 2, 20)
    if shape == "flat":
        row = torch.rand(20)
        result = rollout_row(row, [q[0] for q in queries], [k[0] for k in keys])
        assert result.shape == (20,)
        one = explicit(row[None], [q[:1] for q in queries], [k[:1] for k in keys], 0.5, None)[0]
        torch.testing.assert_close(result.double(), one, rtol=0, atol=1e-5)
    else:
        row = torch.rand(3, 20) if shape == "batched row" else torch.rand(1, 20).expand(3, 20)
        result = rollout_row(row, queries, keys)
        assert result.shape == (3, 20)
        expected = explicit(row, queries, keys, 0.5, None)
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)


def test_flat_valid_and_low_precision_inputs() -> None:
    queries, keys = layers(2, 1, 2, 1, 30)
    low = [q.bfloat16() for q in queries], [k.bfloat16() for k in keys]
    valid = torch.arange(30) >= 7
    row = valid.float()
    result = rollout_row(row, [q[0] for q in low[0]], [k[0] for k in low[1]], valid=valid)
    upcast = [q.float() for q in low[0]], [k.float() for k in low[1]]
    expected = explicit(row[None], *upcast, 0.5, valid[None])
    torch.testing.assert_close(result[None].double(), expected, rtol=0, atol=1e-5)
    assert result[:7].abs().sum() == 0


def test_the_input_row_is_left_alone_and_no_layers_is_the_identity() -> None:
    row = torch.rand(5)
    before = row.clone()
    queries, keys = layers(1, 1, 2, 2, 5)
    rollout_row(row, queries, keys)
    assert torch.equal(row, before)
    assert torch.equal(rollout_row(row, [], []), before)


def test_alpha_zero_and_one() -> None:
    queries, keys = layers(2, 1, 2, 2, 12)
    row = torch.rand(1, 12)
    assert torch.equal(rollout_row(row, queries, keys, 0.0), row)
    expected = explicit(row, queries, keys, 1.0, None)
    torch.testing.assert_close(
        rollout_row(row, queries, keys, 1.0).double(), expected, rtol=0, atol=1e-5
    )


def test_errors() -> None:
    queries, keys = layers(2, 1, 2, 2, 6)
    row = torch.ones(6)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="alpha"):
            rollout_row(row, queries, keys, alpha)
    with pytest.raises(ConfigError, match="2 layers of queries and 1 of keys|do not fit"):
        rollout_row(row, queries, keys[:1])
    with pytest.raises(ConfigError, match="do not fit"):
        rollout_row(torch.ones(7), queries, keys)


@pytest.mark.parametrize("rows", [2, 3])
def test_batches_that_do_not_fit(rows: int) -> None:
    queries, keys = layers(2, 4, 2, 2, 6)
    with pytest.raises(ConfigError):
        rollout_row(torch.ones(rows, 6), queries, keys)
    with pytest.raises(ConfigError):
        rollout_row(torch.ones(4, 6), queries, [key[:rows] for key in keys])
    with pytest.raises(ConfigError):
        rollout_row(torch.ones(4, 6), queries, keys, valid=torch.ones(rows, 6, dtype=torch.bool))


def test_head_counts_that_do_not_fit() -> None:
    queries, _ = layers(2, 1, 4, 4, 6)
    _, keys = layers(2, 1, 3, 3, 6)
    with pytest.raises(ConfigError):
        rollout_row(torch.ones(6), queries, keys)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 2 * BLOCK + 2),
    groups=st.sampled_from([1, 3]),
    share=st.integers(1, 2),
    count=st.integers(1, 3),
    alpha=st.floats(0, 1),
    pads=st.integers(0, 40),
)
def test_property(
    length: int, groups: int, share: int, count: int, alpha: float, pads: int
) -> None:
    queries, keys = layers(count, 2, groups * share, groups, length, size=4)
    valid = torch.arange(length) >= torch.tensor([[min(pads, length - 1)], [0]])
    row = torch.rand(2, length) * valid
    expected = explicit(row, queries, keys, alpha, valid)
    result = rollout_row(row, queries, keys, alpha, valid=valid).double()
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_padding_that_differs_between_rows_of_shared_queries_is_refused() -> None:
    queries, keys = layers(1, 1, 2, 2, 6)
    with pytest.raises(ConfigError, match="do not fit"):
        rollout_row(torch.ones(2, 6), queries, keys, valid=torch.ones(2, 6, dtype=torch.bool))
