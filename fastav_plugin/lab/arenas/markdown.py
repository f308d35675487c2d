"""The tables of an arena as Markdown, from which its page is generated."""

from collections.abc import Mapping
from typing import Any

from fastav_plugin.lab.arenas.summary import columns_of
from fastav_plugin.lab.papers.markdown import grid


def render(found: Mapping[str, Any]) -> str:
    """All tables of a result, each under a line of its own.

    Args:
        found: what `fastav eval --suite real-lm --json` prints.
    """
    dense = found["dense"]
    kinds = ", ".join(f"{name} {100 * own['mean']:.0f} %" for name, own in dense["kinds"].items())
    parts = [
        f"{found['about']}. Dense answers {found['answered']} of {found['questions']} questions "
        f"about {found['clips']} passages ({kinds}); seed {found['seed']}, intervals of 95 % over "
        f"passages, torch {found['torch']}."
    ]
    parts += [render_table(table) for table in found["tables"]]
    return "\n\n".join(parts) + "\n"


def render_table(table: Mapping[str, Any]) -> str:
    """One table with its title, and what is left out of it."""
    left = [f"{each['setting']}: {each['reason']}" for each in table["left_out"]]
    after = "\n\nLeft out: " + " ".join(left) if left else ""
    return f"**{table['title']}.**\n\n" + grid(columns_of(table["rows"]), table["rows"]) + after
