"""Tensor parallelism: ranks share the attention heads, and must all keep the same tokens."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.models import mesh_of


class Ranks:
    """The processes among which the attention heads of one model are spread.

    Every rank must be given the same prompts, and every rank samples for itself: seed all alike.

    Args:
        group: torch's process group; None where this process has all heads.
        heads: query heads that attention has in this process; None if there is no other process.

    Attributes:
        size: number of ranks.
    """

    def __init__(self, group: Any = None, heads: int | None = None) -> None:
        self._group = group
        self._heads = heads
        self.size = 1 if group is None else dist.get_world_size(group)

    def mean(self, scores: Tensor | None) -> Tensor | None:
        """Mean over all heads, from each rank's mean over its own, of which all have as many."""
        if self._group is None or scores is None:
            return scores
        total = scores.clone()
        dist.all_reduce(total, group=self._group)
        return total / self.size

    def agree(self, kept: Tensor) -> Tensor:
        """The first rank's choice, on every rank: bool [B, T].

        Equal inputs give equal choices, but a hook may draw random numbers, and kernels may round
        the features of a near tie differently on each device. Ranks that hold different tokens
        would add up hidden states of different tokens, without an error.
        """
        if self._group is None:
            return kept
        choice = kept.to(torch.uint8)
        dist.broadcast(choice, group_src=0, group=self._group)
        return choice.bool()

    def first(self, make: Callable[[], Any]) -> Any:
        """What the first rank makes, or raises, on every rank; the others do not make it.

        What comes from outside may differ from one reading to the next, and a rank that fails
        alone leaves the others waiting for it for ever.
        """
        if self._group is None:
            return make()
        outcome: list[Any] = [None, None]
        if dist.get_rank(self._group) == 0:
            try:
                outcome[0] = make()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, group_src=0, group=self._group)
        made, failure = outcome
        if failure is not None:
            raise failure
        return made

    def check(self, heads: int) -> None:
        """Refuse attention with fewer heads than it should have: other processes hold the rest."""
        if self._heads is not None and heads < self._heads:
            raise UnsupportedError(
                f"Attention has {heads} heads in this process, not {self._heads}: the model was "
                "split over processes in a way its weights do not show, so the scores of the "
                "other heads are out of reach. Load it with from_pretrained(tp_plan='auto'), or "
                "use method='divprune'."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ranks":
        """Itself: a process group belongs to the process."""
        return self


#: What every model has that is in one process.
ALONE = Ranks()


def find_ranks(head: nn.Module, attentions: Iterable[nn.Module], text_config: Any) -> Ranks:
    """The ranks that share the heads of a model's attention modules; uneven splits are refused."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return ALONE
    group = _sharding_group(attentions)
    if group is None and _size(head, "tp") > 1:
        group = mesh_of(head)["tp"].get_group()
    size = 1 if group is None else dist.get_world_size(group)
    heads = text_config.num_attention_heads
    if size == 1:
        # Some families list a number of heads per layer.
        return Ranks(None, heads if isinstance(heads, int) else None)
    groups = int(getattr(text_config, "num_key_value_heads", None) or heads)
    if heads % size or groups % size:
        raise UnsupportedError(
            f"{heads} query and {groups} key/value heads cannot be shared evenly by {size} "
            "tensor-parallel ranks. Use a tp_size that divides both."
        )
    return Ranks(group, heads // size)


def refuse_stages(head: nn.Module) -> None:
    """Refuse a model of which each rank runs some of the layers only."""
    stages = _size(head, "pp")
    if stages > 1:
        raise UnsupportedError(
            f"{type(head).__name__} is spread over {stages} pipeline stages (pp_size), so no rank "
            "runs all the layers a cut goes through. Use tensor parallelism (tp_plan='auto') or "
            "device_map."
        )


def _size(head: nn.Module, name: str) -> int:
    """Ranks along one named dimension of the mesh that transformers spread a model over."""
    mesh = mesh_of(head)
    names = getattr(mesh, "mesh_dim_names", None) or ()
    return int(mesh.size(names.index(name))) if name in names else 1


def _sharding_group(attentions: Iterable[nn.Module]) -> Any:
    """The process group over which a weight is split by its input features, or None.

    Only tensor parallelism does that, to the output projection; data parallelism splits the
    first dimension of every weight.
    """
    from torch.distributed.tensor import DTensor, Shard

    for attention in attentions:
        for weight in attention.parameters():
            if not isinstance(weight, DTensor) or weight.dim() != 2:
                continue
            for dim, placement in enumerate(weight.placements):
                if isinstance(placement, Shard) and placement.dim in (1, -1):
                    return weight.device_mesh.get_group(dim)
    return None
