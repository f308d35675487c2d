"""Theoretical cost of a prefill, in multiply-accumulates."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastav_plugin.errors import ConfigError


@dataclass(frozen=True)
class LayerCost:
    """Sizes of one decoder layer that its cost depends on, as in `prefill_macs`.

    `query_heads` is the number of heads that share `query_size`; 0 where nobody has said it, and
    the smallest part of the rollout's cost is then left out.
    """

    hidden_size: int
    intermediate_size: int
    kv_size: int
    query_size: int
    mlp_matrices: int = 3
    query_heads: int = 0

    def macs(self, tokens_per_layer: Sequence[int]) -> int:
        """Multiply-accumulates of the layers in a prefill with these tokens in each of them.

        Raises:
            ConfigError: a negative count or size.
        """
        sizes = (self.hidden_size, self.intermediate_size, self.kv_size, self.query_size)
        if min(*sizes, self.mlp_matrices, *tokens_per_layer) < 0:
            raise ConfigError("Sizes and token counts must not be negative.")
        projections = 2 * self.hidden_size * (self.query_size + self.kv_size)
        mlp = self.mlp_matrices * self.hidden_size * self.intermediate_size
        return sum(n * (projections + mlp) + 2 * n * n * self.query_size for n in tokens_per_layer)

    def ratios(
        self, tokens_per_layer: Sequence[int], length: int, overhead: int = 0
    ) -> tuple[float, float]:
        """What a prefill costs as fractions of dense: all of it, and the overhead in it.

        Args:
            tokens_per_layer: as of `macs`.
            length: tokens of the prompt, which enter each layer in a dense prefill.
            overhead: multiply-accumulates of choosing tokens.
        """
        dense = max(1, self.macs([length] * len(tokens_per_layer)))
        return (self.macs(tokens_per_layer) + overhead) / dense, overhead / dense


def prefill_macs(
    tokens_per_layer: Sequence[int],
    *,
    hidden_size: int,
    intermediate_size: int,
    kv_size: int | None = None,
    query_size: int | None = None,
    mlp_matrices: int = 3,
) -> int:
    """Multiply-accumulates of the decoder layers for one prompt, exactly, as the papers count.

    Per layer with n tokens, d = hidden, q = query, k = key/value and m = MLP width:
    `2nd(q + k) + 2n^2 q + (mlp_matrices) ndm`. Without grouped heads (q = k = d) that is the
    `4nd^2 + 2n^2 d + 3ndm` of the FastAV paper; DivPrune's paper counts two MLP matrices. What
    choosing the tokens costs is not in it, and is in `PruningReport.flops_ratio`.

    Args:
        tokens_per_layer: prompt tokens that enter each layer, lowest layer first.
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
    cost = LayerCost(hidden_size, intermediate_size, kv, query, mlp_matrices)
    return cost.macs(tokens_per_layer)
