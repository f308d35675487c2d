"""python -m tests.matrix [--write] [model_type ...]: try families, write the table of models."""

from __future__ import annotations

import argparse
import sys

import torch
import transformers

from tests.matrix.classes import CLASSES
from tests.matrix.sweep import sweep
from tests.matrix.table import table, write


def main() -> int:
    """Print a line for each family; 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table of models")
    parser.add_argument("model_types", nargs="*", metavar="model_type", help="all if left out")
    chosen = parser.parse_args()
    if chosen.write and chosen.model_types:
        parser.error("--write needs every family: name none")
    unknown = sorted(set(chosen.model_types) - CLASSES.keys())
    if unknown:
        parser.error(f"no such model_type: {', '.join(unknown)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    outcomes = {}
    failed = 0
    for result in sweep(chosen.model_types or CLASSES):
        outcome = result.outcome
        if outcome is None:
            failed += 1
            said = f"FAILED: {result.failure}"
        elif not outcome.methods:
            said = f"refused: {outcome.reason}"
        else:
            said = f"passes, {outcome.methods}, off by {outcome.error:.0e}"
        print(f"{result.model_type} ({result.seconds:.1f} s) {said}", flush=True)
        for line in result.warned:
            print(f"    warned: {line}", flush=True)
        if outcome is not None:
            outcomes[result.model_type] = outcome
    print(f"{len(outcomes)} as they should be, {failed} failed")
    if chosen.write and not failed:
        write(table(outcomes))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
