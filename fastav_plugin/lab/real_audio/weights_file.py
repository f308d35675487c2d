"""The file with what was trained: the connector and the update of the language model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

#: The file that is shipped.
SHIPPED = Path(__file__).parent / "weights" / "model.safetensors"

_PARTS = ("connector", "update")


def write_weights(
    path: Path, connector: Mapping[str, Tensor], update: Mapping[str, Tensor]
) -> None:
    """Write both in float16."""
    parts = zip(_PARTS, (connector, update), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {f"{part}.{name}": value for part, state in parts for name, value in state.items()}
    save_file({name: value.detach().half().contiguous() for name, value in named.items()}, path)


def read_weights(path: Path = SHIPPED) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Connector and update in float32, by the names of their modules."""
    state = {name: value.to(torch.float32) for name, value in load_file(path).items()}
    found = []
    for part in _PARTS:
        own = f"{part}."
        found.append({n.removeprefix(own): x for n, x in state.items() if n.startswith(own)})
    connector, update = found
    return connector, update
