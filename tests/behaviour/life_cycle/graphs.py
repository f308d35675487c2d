"""A torch.compile backend that counts what it is given and what then runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._dynamo.utils import counters
from torch.fx import GraphModule
from transformers import LogitsProcessor


class Graphs(LogitsProcessor):
    """As backend it runs graphs as they are; as logits processor it learns where steps end.

    Attributes:
        made: attention calls in each graph that was made.
        steps: for each step, the graphs that ran in it, by their place in `made`.
        made_after: for each step, how many graphs there were at its end.
    """

    def __init__(self) -> None:
        self.made: list[int] = []
        self.steps: list[list[int]] = []
        self.made_after: list[int] = []
        self._running: list[int] = []

    def compile(self, graph: GraphModule, inputs: Any) -> Callable[..., Any]:
        number = len(self.made)
        targets = [str(node.target) for node in graph.graph.nodes]
        self.made.append(sum("scaled_dot_product" in target for target in targets))

        def run(*args: Any) -> Any:
            self._running.append(number)
            return graph(*args)

        return run

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(self._running)
        self.made_after.append(len(self.made))
        self._running = []
        return scores

    def attention_calls(self, step: int) -> list[int]:
        """Attention calls of each graph that ran in a step and had any."""
        return [self.made[number] for number in self.steps[step] if self.made[number]]


def breaks() -> list[str]:
    """Why dynamo broke graphs since its last reset."""
    return list(counters["graph_break"])
