"""Pruned generate() against masked dense in a few tiny families, without pytest.

Runs in the canary's environment, where only the tests are copied beside the installed package.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

import fastav_plugin
from tests.support.cases import TOLERANCE, config_of, prune, reference, rows_of

FAMILIES = ("omni_all", "qwen2_vl", "llama_text")
METHODS = ("fastav", "divprune", "fastav+divprune")


class Wrong(Exception):
    """Pruned logits are not those of the masked-dense model."""


def compare(name: str, method: str) -> float:
    """Largest difference of the logits of a padded batch.

    Raises:
        Wrong: it is above the tolerance, or nothing was pruned.
    """
    rows = rows_of(name, "ragged")
    result = prune(name, "sdpa", rows, config_of(name, method))
    if result.held[-1].sum() >= sum(len(row) for row in rows):
        raise Wrong(f"{name}, {method}: no row was dropped")
    expected = reference(name, "sdpa", rows, result)
    error = float((result.run.logits - expected.logits).abs().max())
    if not error <= TOLERANCE:
        raise Wrong(f"{name}, {method}: logits are {error:.1e} off masked dense")
    return error


def main() -> int:
    """Print one line; raises where something is wrong."""
    place = Path(fastav_plugin.__file__)
    if not place.is_relative_to(sys.prefix):
        raise Wrong(f"fastav_plugin is not the installed one but {place}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    worst = max(compare(name, method) for name in FAMILIES for method in METHODS)
    print(f"{len(FAMILIES)} families, {len(METHODS)} methods, at most {worst:.0e} off masked dense")
    return 0


if __name__ == "__main__":
    sys.exit(main())
