"""How transformers spreads one model over processes."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastav_plugin.upstream.classes import model_class
from fastav_plugin.upstream.contract import Contract
from fastav_plugin.upstream.releases import missing

_MESH = "_device_mesh"


def mesh_of(model: nn.Module) -> Any:
    """The device mesh that from_pretrained() spread a model over; None for one process.

    Raises:
        UnsupportedError: this release keeps it elsewhere.
    """
    if not isinstance(model, model_class()):
        return None
    if not hasattr(model, _MESH):
        raise missing(_KEPT)
    return getattr(model, _MESH)


def tensor_parallel(size: int) -> dict[str, Any]:
    """Keywords of from_pretrained() that split a model over `size` processes.

    Raises:
        UnsupportedError: this release is told otherwise.
    """
    try:
        from transformers.distributed.configuration_utils import DistributedConfig
    except ImportError:
        raise missing("transformers.distributed.configuration_utils.DistributedConfig") from None
    return {"distributed_config": DistributedConfig(tp_size=size, tp_plan="auto")}


_KEPT = f"the attribute `{_MESH}` of PreTrainedModel"

CONTRACTS = (Contract(_KEPT, lambda: hasattr(model_class(), _MESH)),)
