"""What attention shows of a prompt on its way through the layers: scores, queries and keys."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from fastav_plugin.functional.scores import query_scores
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers.account import Account
from fastav_plugin.layers.causality import refuse_other_mask, refuse_softcap
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.layers.masks import visible_to
from fastav_plugin.layers.tensor_parallel import Ranks
from fastav_plugin.pruning.rollout_view import LayerAttention, Rollout
from fastav_plugin.pruning.survivors import Survivors


class PruningListener(Protocol):
    """Told when the pruner works, e.g. to take its time.

    `part` is "selection" (hooks choose), "scoring" (attention is read) or "gathering" (the rest:
    arguments are cut). Parts lie inside each other.
    """

    def during(self, part: str) -> AbstractContextManager[Any]:
        """Entered when a part begins, left when it ends."""


class Observer:
    """Scores of the layer just left; queries and keys of all layers as long as a hook needs them.

    Args:
        hooks: those of each place.
        survivors: of the prompt.
        drafted: trailing tokens that a draft added to the prompt.
        ranks: the processes that share the attention heads.
        listener: called when attention is read, or None.
        account: what reading it costs is noted in, or None.
    """

    def __init__(
        self,
        hooks: Mapping[int, LayerHookList],
        survivors: Survivors,
        drafted: int,
        ranks: Ranks,
        listener: PruningListener | None = None,
        account: Account | None = None,
    ) -> None:
        self._listener = listener
        self._account = account
        self._survivors = survivors
        self._drafted = drafted
        self._ranks = ranks
        self._scored = {
            place for place, asked in hooks.items() if any(hook.needs_scores for hook in asked)
        }
        self._rolled = rollout_places(hooks)
        self._deepest = max(self._rolled, default=0)
        self._keeps = self._scores_this = False
        self._past: tuple[int, Tensor | None] = (0, None)
        self._scores: Tensor | None = None
        self._rollout: Rollout | None = None
        self._layers: list[LayerAttention] = []
        self._checked: list[Any] = []

    @property
    def needed(self) -> bool:
        """Whether some hook will read attention."""
        return bool(self._scored or self._rolled)

    def enter(self, layer: int, kv_layer: FastAVLayer) -> bool:
        """Whether this layer's attention will be read by a hook at a later place."""
        self._keeps, self._scores_this = layer < self._deepest, layer + 1 in self._scored
        if self._keeps:
            self._past = kv_layer.num_tokens, kv_layer.valid
        if self._scores_this and self._account is not None:
            self._account.score(self._survivors.real_tokens(kv_layer))
        return self._keeps or self._scores_this

    def observe(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float | None, softcap: float | None
    ) -> None:
        """Read what the hooks need of one layer's attention.

        Args:
            query: [B, H, K, D], as it enters attention.
            keys: [B, G, n + K, D], tokens of earlier turns first.
            mask: the mask attention got.
            scaling: factor on the logits.
            softcap: cap on the logits.
        """
        if self._listener is None:
            self._read(query, keys, mask, scaling, softcap)
        else:
            with self._listener.during("scoring"):
                self._read(query, keys, mask, scaling, softcap)

    def _read(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float | None, softcap: float | None
    ) -> None:
        self._ranks.check(query.shape[1])
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        if self._scores_this:
            self._score(query, keys, mask, factor, softcap)
        if self._keeps:
            self._keep(query, keys, mask, factor, softcap)

    def _score(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float, softcap: float | None
    ) -> None:
        """Score the survivors by the query of the last prompt token; drafted tokens get 0."""
        drafted, count = self._drafted, query.shape[2]
        seen, last = keys.shape[2] - drafted, count - drafted - 1
        visible, valid = visible_to(mask, last, seen), self._survivors.held.valid
        if visible is None and valid is not None:
            visible = valid[:, None, :seen].to(query.device)
        scores = query_scores(
            query[:, :, last : last + 1].squeeze(2),
            keys[:, :, :seen],
            scaling=scaling,
            mask=visible,
            softcap=softcap,
        )
        self._scores = torch.nn.functional.pad(scores[:, drafted - count :], (0, drafted))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _keep(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float, softcap: float | None
    ) -> None:
        """Keep one layer's attention; a list that grows would be compiled for every layer."""
        refuse_softcap(softcap)
        index, valid = self._survivors.index, self._survivors.held.valid
        end = query.shape[2] - self._drafted
        past, before = self._past
        if not any(mask is known for known in self._checked):
            refuse_other_mask(mask, valid, before, past)
            self._checked.append(mask)
        self._layers.append(
            LayerAttention(
                query=query.detach()[:, :, :end],
                keys=keys.detach()[:, :, : past + end],
                scaling=scaling,
                index=None if index is None else index[:, :end],
                valid=None if valid is None else valid[:, :end],
                before=before,
            )
        )

    def show(self, place: int) -> tuple[Tensor | None, Rollout | None]:
        """Scores of the layer just left, over all heads, and the rollout below a place.

        None for what no hook at this place asks for, or what attention did not hand over.
        """
        if place in self._rolled and len(self._layers) == place:
            width = self._survivors.length - self._drafted
            self._rollout = Rollout(self._layers, width, self._drafted, self._ranks, self._account)
        return self._ranks.mean(self._scores), self._rollout

    def leave(self, place: int) -> None:
        """Forget what no hook at a later place reads."""
        self._scores = None
        if self._rollout is not None:
            self._rollout.close()
            self._rollout = None
        if place >= self._deepest:
            self._layers = []
            self._checked = []


def rollout_places(hooks: Mapping[int, LayerHookList]) -> set[int]:
    """Places at which a hook reads attention rollout."""
    return {place for place, asked in hooks.items() if any(hook.needs_rollout for hook in asked)}
