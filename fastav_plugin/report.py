"""What one request dropped, layer by layer, what that saved, or why nothing happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError, StateError
from fastav_plugin.flops import prefill_macs
from fastav_plugin.tokens import Modality, TokenMap


@dataclass(frozen=True)
class LayerCost:
    """Sizes of one decoder layer that its cost depends on."""

    hidden_size: int
    intermediate_size: int
    kv_size: int
    query_size: int
    mlp_matrices: int = 3

    def macs(self, tokens_per_layer: Sequence[int]) -> int:
        """Multiply-accumulates of a prefill with these tokens in each layer."""
        return prefill_macs(
            tokens_per_layer,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            kv_size=self.kv_size,
            query_size=self.query_size,
            mlp_matrices=self.mlp_matrices,
        )


@dataclass(frozen=True)
class PruningReport:
    """Account of one prefill.

    Attributes:
        method: the config's method.
        tokens_per_layer: alive prompt tokens, padding excluded, of each layer: a list of L ints
            for one batch row, or [B][L].
        modality_per_layer: the same for each modality by name ("text", "video", ...).
        flops_ratio: prefill multiply-accumulates as a fraction of dense, in (0, 1]; a mean over
            rows when the report covers several.
        kv_bytes: bytes of keys and values really held now, whole batch; under tensor parallelism
            those of this process.
        dense_kv_bytes: bytes a dense cache of the same model would hold now.
        reason: why nothing was cut, or None.
        positions: per layer, the prompt positions it holds: int64 [n] per batch row.
        token_map: what those positions are; rows as in `positions`.
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
            row: index among the rows this report covers.

        Raises:
            ConfigError: no such modality.
        """
        kept = self.positions[layer][row]
        if modality is not None:
            kind = _modality(modality)
            kept = kept[self.token_map.modality[row].to(kept.device)[kept] == int(kind)]
        return [int(position) for position in kept.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data, without positions."""
        return {
            "method": self.method,
            "tokens_per_layer": self.tokens_per_layer,
            "modality_per_layer": self.modality_per_layer,
            "flops_ratio": self.flops_ratio,
            "kv_bytes": self.kv_bytes,
            "dense_kv_bytes": self.dense_kv_bytes,
            "reason": self.reason,
        }


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
    """Build the report of one batch row, or of all.

    Args:
        method: name of the method.
        token_map: map of the prompt, [B, T].
        positions: per layer int64 [B, kv], -1 for padding; rows past the prompt are ignored.
        cost: sizes of a layer.
        kv_bytes: bytes held.
        dense_kv_bytes: bytes a dense cache would hold.
        reason: why nothing was cut.
        row: a batch row, or None for all.

    Raises:
        StateError: no such row.
    """
    rows = list(range(token_map.rows)) if row is None else [row]
    if row is not None and not -token_map.rows <= row < token_map.rows:
        raise StateError(f"The batch has {token_map.rows} rows, got row={row}.")
    picked = token_map.select(torch.tensor(rows)).to("cpu")
    kept = [
        [_prompt_part(layer[index].cpu(), token_map.length) for index in rows]
        for layer in positions
    ]
    totals = [[int(layer[r].numel()) for layer in kept] for r in range(len(rows))]
    dense = [int(picked.valid[r].sum()) for r in range(len(rows))]
    ratios = [
        cost.macs(counts) / max(1, cost.macs([full] * len(counts)))
        for counts, full in zip(totals, dense, strict=True)
    ]
    kinds = [kind for kind in list(Modality)[1:] if bool(picked.mask(kind).any())]
    by_kind = {
        kind.name.lower(): [
            [int((picked.modality[r][layer[r]] == int(kind)).sum()) for layer in kept]
            for r in range(len(rows))
        ]
        for kind in kinds
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


def _modality(name: Modality | str) -> Modality:
    known = {kind.name.lower(): kind for kind in Modality}
    if isinstance(name, Modality):
        return name
    if name.lower() not in known:
        raise ConfigError(f"Unknown modality {name!r}. Known: {', '.join(known)}.")
    return known[name.lower()]


def _prompt_part(positions: Tensor, length: int) -> Tensor:
    return positions[(positions >= 0) & (positions < length)]
