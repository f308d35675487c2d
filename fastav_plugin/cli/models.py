"""fastav models: the families, methods and presets this installation knows."""

import inspect
from typing import Any

from fastav_plugin.cli.console import JsonFlag, print_json
from fastav_plugin.cli.tables.layout import print_table


def run(json: JsonFlag = False) -> None:
    """List the model families with an override, the pruning methods and the presets.

    Any other transformers decoder is tried by a probe on a tiny copy of it.

    Example: fastav models --json
    """
    from fastav_plugin.hooks.base import HOOKS
    from fastav_plugin.hooks.registry import METHODS
    from fastav_plugin.model_overrides.registry import OVERRIDES
    from fastav_plugin.settings.presets import PRESETS

    families = [
        {
            "model_type": name,
            "override": type(override).__name__,
            "about": _first_line(type(override)),
            "default_rule": override.global_rule,
            "needs": _needs(name),
        }
        for name, override in sorted(OVERRIDES.items())
    ]
    hooks = [{"hook": name, "about": _first_line(HOOKS[name])} for name in sorted(HOOKS)]
    # A hook is a method of its own too; the names that people use come first.
    named = sorted(METHODS.items(), key=lambda item: (item[0] in HOOKS, item[0]))
    methods = [{"method": name, "hooks": list(parts)} for name, parts in named]
    presets = [
        {"preset": preset.name, "about": f"{preset.about} {preset.measured}"}
        for preset in PRESETS.values()
    ]
    if json:
        found = {"families": families, "methods": methods, "hooks": hooks, "presets": presets}
        print_json(found)
        return
    for row in families:
        if row["needs"]:
            row["about"] = f"{row['about']} Needs transformers {row['needs']}."
    _table("Families", families, ("model_type", "override", "about"))
    rows = [{"method": row["method"], "hooks": " then ".join(row["hooks"])} for row in methods]
    _table("\nMethods, which may be joined by '+'", rows, ("method", "hooks"))
    _table("\nHooks", hooks, ("hook", "about"))
    _table("\nPresets, of --preset", presets, ("preset", "about"))


def _needs(model_type: str) -> str | None:
    """The release that a family came with, where the installed one is older."""
    from fastav_plugin.upstream.models import SINCE, has_model_type

    since = SINCE.get(model_type)
    return None if since is None or has_model_type(model_type) else since


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[str(row[column]) for column in columns] for row in rows]
    last = len(columns) - 1
    print_table(columns, cells, title=title, left=range(len(columns)), prose=last)
