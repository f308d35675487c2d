"""fastav models: the families and methods this installation knows."""

from __future__ import annotations

import inspect
from typing import Any

from fastav_plugin.cli.console import print_json, print_table
from fastav_plugin.cli.options import JsonFlag
from fastav_plugin.hooks.base import HOOKS, METHODS
from fastav_plugin.model_overrides.registry import OVERRIDES


def run(json: JsonFlag = False) -> None:
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
    hooks = [{"hook": name, "about": _first_line(HOOKS[name])} for name in sorted(HOOKS)]
    # A hook is a method of its own too; the names that people use come first.
    named = sorted(METHODS.items(), key=lambda item: (item[0] in HOOKS, item[0]))
    methods = [{"method": name, "hooks": list(parts)} for name, parts in named]
    if json:
        print_json({"families": families, "methods": methods, "hooks": hooks})
        return
    _table("Families", families, ("model_type", "override", "about"))
    rows = [{"method": row["method"], "hooks": " then ".join(row["hooks"])} for row in methods]
    _table("\nMethods, which may be joined by '+'", rows, ("method", "hooks"))
    _table("\nHooks", hooks, ("hook", "about"))


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[str(row[column]) for column in columns] for row in rows]
    last = len(columns) - 1
    print_table(columns, cells, title=title, left=range(len(columns)), wrap=(last,))
