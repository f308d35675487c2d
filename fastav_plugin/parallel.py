"""Tensor parallelism: attention heads are spread over ranks, which must all keep the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastav_plugin.errors import UnsupportedError


class HeadGroup:
    """The ranks among which the attention heads of one model are spread.

    Args:
        group: torch's process group.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.size = dist.get_world_size(group)

    def mean(self, scores: Tensor) -> Tensor:
        """Mean over all heads, from each rank's mean over its own, of which all have as many."""
        total = scores.clone()
        dist.all_reduce(total, group=self._group)
        return total / self.size

    def agree(self, kept: Tensor) -> Tensor:
        """The first rank's choice, on every rank: bool [B, T].

        Equal inputs give equal choices, but a hook may draw random numbers, and kernels may round
        the features of a near tie differently on each device. Ranks that hold different rows
        would add up hidden states of different tokens, without an error.
        """
        choice = kept.to(torch.uint8)
        dist.broadcast(choice, group_src=0, group=self._group)
        return choice.bool()

    def __deepcopy__(self, memo: dict[int, Any]) -> HeadGroup:
        """Itself: a process group belongs to the process."""
        return self


def find_head_group(
    head: nn.Module, attentions: Iterable[nn.Module], text_config: Any
) -> HeadGroup | None:
    """The ranks that share a model's attention heads; None where each holds the whole model.

    Args:
        head: the module that generate() calls.
        attentions: the attention module of each layer.
        text_config: the decoder's configuration.

    Raises:
        UnsupportedError: heads are split unevenly.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    group = _sharding_group(attentions)
    if group is None and _size(head, "tp") > 1:
        group = head._device_mesh["tp"].get_group()  # type: ignore[index, union-attr]
    if group is None or dist.get_world_size(group) == 1:
        return None
    found = HeadGroup(group)
    heads = int(text_config.num_attention_heads)
    groups = int(getattr(text_config, "num_key_value_heads", None) or heads)
    if heads % found.size or groups % found.size:
        raise UnsupportedError(
            f"{heads} query and {groups} key/value heads cannot be shared evenly by "
            f"{found.size} tensor-parallel ranks. Use a tp_size that divides both."
        )
    return found


def heads_here(text_config: Any, ranks: HeadGroup | None) -> int | None:
    """Query heads that attention must have in this process; None where there is no other one."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    return int(text_config.num_attention_heads) // (1 if ranks is None else ranks.size)


def check_heads(found: int, expected: int | None) -> None:
    """Raise if attention has fewer heads than are accounted for: other ranks hold the rest.

    Raises:
        UnsupportedError: the model was split by something that leaves no trace on its weights.
    """
    if expected is not None and found < expected:
        raise UnsupportedError(
            f"Attention has {found} heads in this process, not {expected}: the model was split "
            "over processes in a way its weights do not show, so the scores of the other "
            "heads are out of reach. Load it with from_pretrained(tp_plan='auto'), or use "
            "method='divprune'."
        )


def refuse_stages(head: nn.Module) -> None:
    """Raise if each rank runs some of the layers only.

    Raises:
        UnsupportedError: names what to use instead.
    """
    stages = _size(head, "pp")
    if stages > 1:
        raise UnsupportedError(
            f"{type(head).__name__} is spread over {stages} pipeline stages (pp_size), so no rank "
            "runs all the layers a cut goes through. Use tensor parallelism (tp_plan='auto') or "
            "device_map."
        )


def _size(head: nn.Module, name: str) -> int:
    """Ranks along one named dimension of the mesh that transformers spread a model over."""
    mesh: Any = getattr(head, "_device_mesh", None)
    names = getattr(mesh, "mesh_dim_names", None) or ()
    return int(mesh.size(names.index(name))) if name in names else 1


def _sharding_group(attentions: Iterable[nn.Module]) -> Any:
    """The process group over which a weight is split by its input features.

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
