"""What one request dropped, layer by layer, what that saved, or why nothing happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.display.units import size
from fastav_plugin.errors import ConfigError, StateError, unknown_name
from fastav_plugin.tokens import Modality, TokenMap


@dataclass(frozen=True)
class LayerCost:
    """Sizes of one decoder layer that its cost depends on, as in `prefill_macs`."""

    hidden_size: int
    intermediate_size: int
    kv_size: int
    query_size: int
    mlp_matrices: int = 3

    def macs(self, tokens_per_layer: Sequence[int]) -> int:
        """Multiply-accumulates of a prefill with these tokens in each layer.

        Raises:
            ConfigError: a negative count or size.
        """
        sizes = (self.hidden_size, self.intermediate_size, self.kv_size, self.query_size)
        if min(*sizes, self.mlp_matrices, *tokens_per_layer) < 0:
            raise ConfigError("Sizes and token counts must not be negative.")
        projections = 2 * self.hidden_size * (self.query_size + self.kv_size)
        mlp = self.mlp_matrices * self.hidden_size * self.intermediate_size
        return sum(n * (projections + mlp) + 2 * n * n * self.query_size for n in tokens_per_layer)


def prefill_macs(
    tokens_per_layer: Sequence[int],
    *,
    hidden_size: int,
    intermediate_size: int,
    kv_size: int | None = None,
    query_size: int | None = None,
    mlp_matrices: int = 3,
) -> int:
    """Multiply-accumulates of the decoder layers for one prompt, exactly.

    Per layer with n tokens, d = hidden, q = query, k = key/value and m = MLP width:
    `2nd(q + k) + 2n^2 q + (mlp_matrices) ndm`. Without grouped heads (q = k = d) that is the
    `4nd^2 + 2n^2 d + 3ndm` of the FastAV paper; DivPrune's paper counts two MLP matrices.

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


@dataclass(frozen=True)
class PruningReport:
    """Account of one prefill.

    Attributes:
        method: the config's method.
        tokens_per_layer: prompt tokens that entered each layer, padding excluded: a list of L
            ints for one batch row, or [B][L].
        modality_per_layer: the same for each modality by name ("text", "video", ...).
        flops_ratio: prefill multiply-accumulates as a fraction of dense, in (0, 1]; a mean over
            batch rows where the report covers several.
        kv_bytes: bytes of keys and values really held now, whole batch; under tensor parallelism
            those of this process.
        dense_kv_bytes: bytes a dense cache of the same model would hold now.
        reason: why nothing was cut, or None.
        positions: per layer, the prompt positions it holds: int64 [n] per batch row.
        token_map: what those positions are; batch rows as in `positions`.
    """

    method: str
    tokens_per_layer: list[Any]
    modality_per_layer: dict[str, list[Any]]
    flops_ratio: float
    kv_bytes: int
    dense_kv_bytes: int
    reason: str | None
    positions: list[list[Tensor]]
    token_map: TokenMap

    def kept_positions(
        self, layer: int, modality: Modality | str | None = None, row: int = 0
    ) -> list[int]:
        """Prompt positions that one layer saw.

        Args:
            layer: 0..L-1; negative counts from the end.
            modality: only these, by member or name; None for all.
            row: index among the batch rows this report covers.

        Raises:
            ConfigError: no such modality.
        """
        kept = self.positions[layer][row]
        if modality is not None:
            known = {kind.name.lower(): kind for kind in Modality}
            name = modality.name if isinstance(modality, Modality) else modality
            if name.lower() not in known:
                raise unknown_name("modality", name, known)
            kept = kept[self.token_map.modality[row][kept] == known[name.lower()]]
        return [int(position) for position in kept.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data, without positions."""
        left_out = ("positions", "token_map")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __str__(self) -> str:
        """One line: tokens before layer 0 and in the last layer, FLOPs and KV bytes, or why not."""
        counts = []
        for name in self.modality_per_layer:
            before = int(self.token_map.mask(Modality[name.upper()]).sum())
            rows = range(self.token_map.rows)
            after = sum(len(self.kept_positions(-1, name, row)) for row in rows)
            counts.append(f"{before} {name}" + (f" -> {after}" if after < before else ""))
        prompt = f"{', '.join(counts)} tokens"
        if self.reason is not None:
            return f"{prompt}; unpruned, because {self.reason}"
        flops = f"FLOPs {100 * self.flops_ratio:.1f} % of dense"
        return (
            f"{prompt}; {flops}; KV {size(self.kv_bytes)} held, dense {size(self.dense_kv_bytes)}"
        )


def make_report(
    *,
    method: str,
    token_map: TokenMap,
    positions: Sequence[Tensor],
    cost: LayerCost,
    kv_bytes: int,
    dense_kv_bytes: int,
    reason: str | None,
    row: int | None,
) -> PruningReport:
    """Build the report of one batch row, or of all where `row` is None.

    `positions` are of each layer, int64 [B, kv]; -1 is padding, those past the prompt are ignored.

    Raises:
        StateError: no such batch row.
    """
    rows = list(range(token_map.rows)) if row is None else [row]
    if row is not None and not -token_map.rows <= row < token_map.rows:
        raise StateError(f"The batch has {token_map.rows} rows, got row={row}.")
    picked = token_map.select(torch.tensor(rows)).to("cpu")
    kept = [
        [held[(held >= 0) & (held < token_map.length)] for held in layer[rows].cpu()]
        for layer in positions
    ]
    by_row = list(zip(*kept, strict=True))
    totals = [[len(held) for held in layers] for layers in by_row]
    ratios = [
        cost.macs(counts) / max(1, cost.macs([full] * len(counts)))
        for counts, full in zip(totals, picked.valid.sum(dim=1).tolist(), strict=True)
    ]
    by_kind = {
        kind.name.lower(): [
            [int((modality[held] == kind).sum()) for held in layers]
            for modality, layers in zip(picked.modality, by_row, strict=True)
        ]
        for kind in Modality
        if kind and picked.mask(kind).any()  # PADDING is 0
    }
    return PruningReport(
        method=method,
        tokens_per_layer=totals if row is None else totals[0],
        modality_per_layer=by_kind if row is None else {k: v[0] for k, v in by_kind.items()},
        flops_ratio=sum(ratios) / len(ratios),
        kv_bytes=kv_bytes,
        dense_kv_bytes=dense_kv_bytes,
        reason=reason,
        positions=kept,
        token_map=picked,
    )
