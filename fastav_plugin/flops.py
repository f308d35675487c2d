"""Exact theoretical cost of a prefill, from the tokens alive in each layer."""

from __future__ import annotations

from collections.abc import Sequence

from fastav_plugin.errors import ConfigError


def prefill_macs(
    tokens_per_layer: Sequence[int],
    *,
    hidden_size: int,
    intermediate_size: int,
    kv_size: int | None = None,
    query_size: int | None = None,
    mlp_matrices: int = 3,
) -> int:
    """Multiply-accumulates of the decoder layers for one prompt.

    Per layer with n tokens, d = hidden, q = query, k = key/value and m = MLP width:
    `2nd(q + k) + 2n^2 q + (mlp_matrices) ndm`. Without grouped heads (q = k = d) that is the
    `4nd^2 + 2n^2 d + 3ndm` of the FastAV paper; DivPrune's paper counts two MLP matrices.

    Args:
        tokens_per_layer: alive tokens of each layer, lowest layer first.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP (of all experts one token visits, if it is a mixture).
        kv_size: key/value heads times head size; None means `hidden_size` (the papers' count).
        query_size: query heads times head size; None means `hidden_size`.
        mlp_matrices: 3 for gated MLPs, 2 for plain ones.

    Raises:
        ConfigError: a negative count or size.
    """
    kv = hidden_size if kv_size is None else kv_size
    query = hidden_size if query_size is None else query_size
    if min(hidden_size, intermediate_size, kv, query, mlp_matrices, *tokens_per_layer) < 0:
        raise ConfigError("Sizes and token counts must not be negative.")
    total = 0
    for tokens in tokens_per_layer:
        projections = 2 * tokens * hidden_size * (query + kv)
        attention = 2 * tokens * tokens * query
        mlp = mlp_matrices * tokens * hidden_size * intermediate_size
        total += projections + attention + mlp
    return total
