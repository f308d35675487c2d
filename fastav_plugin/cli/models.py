"""fastav models: the families and methods this installation knows."""

from __future__ import annotations

import inspect
from typing import Any

from fastav_plugin.cli.console import print_json, print_table
from fastav_plugin.cli.options import JsonFlag
from fastav_plugin.hooks import METHODS, find_hook
from fastav_plugin.model_overrides.registry import OVERRIDES


def models(json: JsonFlag = False) -> None:
    """List the model families with an override, and the pruning methods.

    Any other transformers decoder is tried by a probe on a tiny copy of it.

    Example: fastav models --json
    """
    families = [
        {
            "model_type": name,
            "override": type(override).__name__,
            "about": _first_line(type(override)),
            "default_rule": override.global_rule,
        }
        for name, override in sorted(OVERRIDES.items())
    ]
    methods = [
        {
            "method": name,
            "hooks": list(hooks),
            "about": " + ".join(_first_line(find_hook(hook)) for hook in hooks) or "Keep all.",
        }
        for name, hooks in METHODS.items()
    ]
    if json:
        print_json({"families": families, "methods": methods})
        return
    _table("Families", families, ("model_type", "override", "about"))
    _table("Methods, which may be joined by '+'", methods, ("method", "about"))


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[str(row[column]) for column in columns] for row in rows]
    last = len(columns) - 1
    print_table(columns, cells, title=title, left=range(len(columns)), wrap=(last,))
