"""A low-rank update of the language model's query and value projections (LoRA, 2106.09685)."""

from typing import Any

import torch
from torch import Tensor, nn

RANK, SCALE = 16, 2.0
_PROJECTIONS = ("q_proj", "v_proj")


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of low rank beside it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, hidden: Tensor) -> Tensor:
        """The layer's output with the update's, float [..., out_features]."""
        update = nn.functional.linear(nn.functional.linear(hidden, self.down), self.up)
        result: Tensor = self.linear(hidden) + SCALE * update
        return result


def add_low_rank(model: Any) -> dict[str, nn.Parameter]:
    """Freeze a Llama model and put an update beside its projections.

    Returns:
        The trained factors by name, such as "12.q_proj.down".
    """
    model.requires_grad_(False)
    found = {}
    for index, layer in enumerate(model.model.layers):
        for name in _PROJECTIONS:
            updated = LowRank(getattr(layer.self_attn, name))
            setattr(layer.self_attn, name, updated)
            found[f"{index}.{name}.down"] = updated.down
            found[f"{index}.{name}.up"] = updated.up
    return found


@torch.no_grad()
def merge_low_rank(model: Any, factors: dict[str, Tensor]) -> None:
    """Add the update to the weights of a plain Llama model.

    Args:
        model: with layers under `model.layers`.
        factors: by the names that `add_low_rank` gives.
    """
    for index, layer in enumerate(model.model.layers):
        for name in _PROJECTIONS:
            up, down = (factors[f"{index}.{name}.{part}"].float() for part in ("up", "down"))
            getattr(layer.self_attn, name).weight += SCALE * (up @ down)
