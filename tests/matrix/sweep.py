"""Runs the matrix: one outcome for each model_type, or its failure."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fastav_plugin import FastAVConfig, FastAVError
from tests.matrix.checks import Outcome, Wrong, check
from tests.matrix.listed import cases
from tests.support.family_configs import hub
from tests.support.model_types import require_model_type


@dataclass(frozen=True)
class Result:
    """One model_type.

    Attributes:
        model_type: of the family.
        outcome: what became of it; None if it failed.
        failure: what went wrong, or "".
        seconds: time taken.
        warned: first lines of the warnings that came up.
    """

    model_type: str
    outcome: Outcome | None
    failure: str
    seconds: float
    warned: tuple[str, ...]


def sweep(model_types: Iterable[str]) -> Iterator[Result]:
    """Try one after the other; nothing but a keyboard interrupt ends it early."""
    for model_type in model_types:
        start = time.monotonic()
        outcome, failure = None, ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outcome = find_outcome(model_type)
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
        warned = dict.fromkeys(str(item.message).split("\n")[0] for item in caught)
        yield Result(model_type, outcome, failure, time.monotonic() - start, tuple(warned))


def find_outcome(model_type: str) -> Outcome:
    """What becomes of a family.

    Raises:
        Wrong: it passes a wrong result on.
        Exception: the model could not be tried, though its configuration is not refused.
    """
    require_model_type(model_type)
    refused = refused_configuration(model_type)
    try:
        found = [check(family.name) for family in cases(model_type)]
    except Wrong:
        raise
    except Exception:
        # Some are refused for what also keeps them from being built small.
        if refused is None:
            raise
        return Outcome("", refused)
    first = found[0]
    if any((other.methods, other.reason) != (first.methods, first.reason) for other in found):
        raise Wrong(f"its prompts fare differently: {found}")
    media = tuple(dict.fromkeys(kind for one in found for kind in one.media))
    layers = ", ".join(sorted({kind for one in found for kind in one.layers.split(", ")}))
    worst = max(one.error for one in found)
    return replace(first, media=media, layers=layers, error=worst)


def refused_configuration(model_type: str) -> str | None:
    """Why the family's default configuration is refused, or None."""
    try:
        FastAVConfig.for_model(hub.AutoConfig.for_model(model_type))
    except FastAVError as error:
        return str(error)
    return None
