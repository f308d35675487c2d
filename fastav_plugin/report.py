"""What one request dropped, layer by layer, what that saved, or why nothing happened."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Self

import torch
from torch import Tensor

from fastav_plugin.display.layer_counts import bars, steps
from fastav_plugin.display.units import part_of_size, percent
from fastav_plugin.errors import StateError, unknown_name
from fastav_plugin.flops import LayerCost
from fastav_plugin.tokens import Modality, TokenMap

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: What is counted per layer: a list of L ints, or one of them for each batch row.
    Counts = TypeVar("Counts", default=list[int])
else:
    from typing import TypeVar

    Counts = TypeVar("Counts")


@dataclass(frozen=True)
class PruningReport(Generic[Counts]):
    """Account of one prefill.

    Two reports are equal if all they count is equal; positions and token maps, which are tensors,
    are not compared.

    Attributes:
        method: the config's method.
        tokens_per_layer: prompt tokens that entered each layer, padding excluded: a list of L
            ints for one batch row, or [B][L].
        modality_per_layer: the same for each modality by name ("text", "video", ...).
        flops_ratio: multiply-accumulates of the prefill as a fraction of dense: those of the
            decoder layers, and those of choosing tokens. 1 for a batch row that was not pruned; a
            mean over batch rows where the report covers several. Above 1 only where choosing took
            more than the cuts saved. `prefill_macs` has the papers' count, of the layers alone.
        overhead_ratio: the part of `flops_ratio` that choosing took: the scores of the last query,
            attention rollout, and the products of the hooks' own selection.
        kv_bytes: bytes of the keys and values held now, whole batch; under tensor parallelism
            those of this process.
        dense_kv_bytes: bytes of those that a dense cache of the same model would hold now.
        reason: why nothing was cut, or None.
        kv_reserve_bytes: memory beside `kv_bytes` that is kept free for later tokens, so that not
            every token copies the cache.
        row: the batch row that tokens and FLOPs are of, or None for all.
        batch_rows: batch rows of the cache, whose bytes are counted.
        positions: per layer, the prompt positions it holds: int64 [n] per batch row.
        token_map: what those positions are; batch rows as in `positions`.
    """

    method: str
    tokens_per_layer: Counts
    modality_per_layer: dict[str, Counts]
    flops_ratio: float
    overhead_ratio: float
    kv_bytes: int
    dense_kv_bytes: int
    reason: str | None
    kv_reserve_bytes: int
    row: int | None = field(compare=False)
    batch_rows: int
    positions: list[list[Tensor]] = field(compare=False)
    token_map: TokenMap = field(compare=False)

    def __hash__(self) -> int:
        return hash((self.method, self.flops_ratio, self.kv_bytes, self.dense_kv_bytes))

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

    def prompt_tokens(self) -> dict[str, int]:
        """Tokens of each modality before any cut, all batch rows together."""
        kinds = {name: Modality[name.upper()] for name in self.modality_per_layer}
        return {name: int(self.token_map.mask(kind).sum()) for name, kind in kinds.items()}

    def after(self, tokens: int) -> Self:
        """The report of one prompt once each layer holds so many tokens of its answer as well.

        Layers are taken to be of one width, and those of a dense cache to grow without a window.
        """
        counts: Any = self.tokens_per_layer
        added = tokens * len(counts) * self.kv_bytes // max(1, sum(counts))
        return replace(
            self, kv_bytes=self.kv_bytes + added, dense_kv_bytes=self.dense_kv_bytes + added
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data, without positions."""
        left_out = ("positions", "token_map")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __str__(self) -> str:
        """One line: tokens, where their number changes, FLOPs and KV bytes; or why nothing was cut.

        A report of several batch rows gives their sums; one of a row among others says so.
        """
        whole = self.prompt_tokens()
        prompt = ", ".join(f"{count} {name}" for name, count in whole.items()) + " tokens"
        rows = self.batch_rows
        if rows > 1:
            which = f"{rows} rows" if self.row is None else f"row {self.row} of {rows}"
            prompt = f"{which}: {prompt}"
        if self.reason is not None:
            return f"{prompt}; unpruned, because {self.reason}"
        counts = steps(sum(whole.values()), self._summed(self.tokens_per_layer))
        flops = f"FLOPs {percent(self.flops_ratio)} of dense"
        kv = "KV" if rows == 1 or self.row is None else f"KV of all {rows} rows"
        size = part_of_size(self.kv_bytes, self.dense_kv_bytes)
        return f"{prompt}; {counts}; {flops}; {kv} {size}"

    def __repr__(self) -> str:
        return f"PruningReport({self.method}: {self})"

    def _repr_html_(self) -> str:
        """For notebooks: the line, and the tokens of each layer as bars, one colour a modality."""
        per_layer = {name: self._summed(each) for name, each in self.modality_per_layer.items()}
        return bars(f"{self.method}: {self}", self.prompt_tokens(), per_layer)

    def _summed(self, counts: Any) -> list[int]:
        """Counts per layer, of all batch rows together."""
        rows = counts if counts and isinstance(counts[0], list) else [counts]
        return [sum(layer) for layer in zip(*rows, strict=True)]


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
    kv_reserve_bytes: int = 0,
    overhead: Tensor | None = None,
) -> PruningReport[Any]:
    """Build the report of one batch row, or of all where `row` is None.

    `positions` are of each layer, int64 [B, kv]; -1 is padding, those past the prompt are ignored.
    `overhead`, int64 [B], are multiply-accumulates of choosing tokens; None for none.

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
    lengths = picked.valid.sum(dim=1).tolist()
    spent = [0] * len(rows) if overhead is None else overhead[rows].tolist()
    ratios, shares = zip(*map(cost.ratios, totals, lengths, spent), strict=True)
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
        overhead_ratio=sum(shares) / len(shares),
        kv_bytes=kv_bytes,
        dense_kv_bytes=dense_kv_bytes,
        reason=reason,
        row=None if row is None else rows[0] % token_map.rows,
        batch_rows=token_map.rows,
        kv_reserve_bytes=kv_reserve_bytes,
        positions=kept,
        token_map=picked,
    )
