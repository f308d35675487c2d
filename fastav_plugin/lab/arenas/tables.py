"""The tables of an arena by their keys."""

from collections.abc import Callable, Sequence

from fastav_plugin.analysis import BUDGETS
from fastav_plugin.lab.arenas.budgets import late_cuts, late_joined, methods
from fastav_plugin.lab.arenas.setting import Table
from fastav_plugin.lab.arenas.studies import (
    QUICK,
    bounds,
    cuts_by_layer,
    drops,
    presets,
    quick,
    removals,
    second_questions,
    single_cuts,
)
from fastav_plugin.tokens import TokenMap


def make_tables(keys: Sequence[str], layers: int, prompt: TokenMap) -> list[Table]:
    """Tables by their keys, in the order of the keys.

    Args:
        keys: of `KEYS`.
        layers: decoder layers L.
        prompt: one prompt, of which positional rules keep shares.
    """
    found: dict[str, Callable[[], Table]] = {}
    for budget in BUDGETS:
        percent = round(100 * budget)
        found[f"methods-{percent}"] = lambda b=budget: methods(b, layers, prompt)  # type: ignore[misc]
        found[f"late-joined-{percent}"] = lambda b=budget: late_joined(b)  # type: ignore[misc]
    found |= {
        "late-cuts": lambda: late_cuts(layers),
        "late-removal": lambda: removals(layers),
        "p-by-layer": lambda: drops(layers),
        "one-cut": lambda: single_cuts(layers),
        "cut-by-layer": lambda: cuts_by_layer(layers),
        "second-question": lambda: second_questions(layers),
        "upper-bound": lambda: bounds(layers),
        "presets": lambda: presets(layers, prompt),
        QUICK: lambda: quick(layers),
    }
    return [found[key]() for key in keys]
