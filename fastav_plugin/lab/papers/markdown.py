"""The tables as Markdown, from which the page is generated."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastav_plugin.lab.papers.summary import cells


def processor_of(found: Mapping[str, Any]) -> str:
    """What computed: the GPU where one did."""
    return str(found["hardware"]["gpu"] or found["hardware"]["processor"])


def render(found: Mapping[str, Any]) -> str:
    """All tables of a result, each under a line of its own.

    Args:
        found: what `fastav eval --suite papers --json` prints.
    """
    hardware = found["hardware"]
    parts = [
        f"{found['questions']} questions about {found['clips']} held-out clips, those that ask for "
        f"something early or late {_count(found, 'early')} and {_count(found, 'late')}; intervals "
        f"of 95 % over clips, seed {found['seed']}; {hardware['threads']} of {hardware['cores']} "
        f"threads of {processor_of(found)}, {found['dtype']}, torch {found['torch']}, "
        f"{duration(found)}."
    ]
    parts += [render_table(table) for table in found["tables"]]
    return "\n\n".join(parts) + "\n"


def duration(found: Mapping[str, Any]) -> str:
    """How long the run took, if it answered every question itself."""
    minutes = found["minutes"]
    return "a resumed run" if minutes is None else f"{minutes:.0f} minutes"


def render_table(table: Mapping[str, Any]) -> str:
    """One table with its title and a sentence."""
    about = f" {table['about']}" if table["about"] else ""
    return f"**{table['title']}.**{about}\n\n" + grid(columns_of(table["rows"]), table["rows"])


def grid(columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The lines of a table: the first column to the left, the others to the right.

    Args:
        columns: what makes the cell of a row, by its heading.
        rows: of a table.
    """
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---" if i == 0 else "---:" for i in range(len(columns))) + "|",
    ]
    lines += ["| " + " | ".join(make(row) for make in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns in which some row has something."""
    return {name: cell for name, cell in cells().items() if any(cell(dict(row)) for row in rows)}


def _count(found: Mapping[str, Any], facet: str) -> int:
    facets = found["tables"][0]["rows"][0]["facets"][facet]
    return 0 if facets is None else int(facets["questions"])
