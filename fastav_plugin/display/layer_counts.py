"""How many tokens go through each layer, in words and as bars."""

import html
from collections.abc import Mapping, Sequence

from fastav_plugin.display.palette import MODALITIES

#: Cuts that a line names at most.
_NAMED = 4

#: Grey that is seen on white and on black.
_GREY = "rgba(127,127,127,.25)"
_CELL = "padding:1px 8px 1px 0;border:0;background:none"


def steps(prompt: int, per_layer: Sequence[int]) -> str:
    """Where the number of tokens changes: "341 -> 277 (entrance) -> 60 (layer 4) -> 29 (layer 7)".

    Of cuts on entering one layer after another the first and the last are named, and no more than
    four in all.

    Args:
        prompt: tokens before any cut.
        per_layer: tokens that entered each layer.
    """
    before = [prompt, *per_layer]
    changed = [layer for layer, count in enumerate(per_layer) if count != before[layer]]
    # The entrance is a place of its own, so a cut on entering layer 1 does not continue it.
    named = [n for n in changed if n < 2 or n - 1 not in changed or n + 1 not in changed]
    if len(named) > _NAMED:
        named = [*named[: _NAMED - 1], named[-1]]
    if not named:
        return f"{prompt} in every layer"
    places = [f"{per_layer[n]} ({f'layer {n}' if n else 'entrance'})" for n in named]
    return " -> ".join([str(prompt), *places])


def bars(title: str, prompt: Mapping[str, int], per_layer: Mapping[str, Sequence[int]]) -> str:
    """An HTML table: a bar and the counts of each layer; neighbours that are equal share a line.

    Every number is text as well, for pages that leave out styles.

    Args:
        title: a line above the table.
        prompt: tokens before any cut, by modality.
        per_layer: tokens that entered each layer, by modality.
    """
    whole = sum(prompt.values())
    square = "\N{BLACK SQUARE}"
    kinds = [f'<span style="color:{MODALITIES[name]}">{square}</span> {name}' for name in prompt]
    lines = [
        _line("th", ["layer", "", *kinds, "tokens"]),
        _line("td", ["prompt", _bar(prompt, whole), *map(str, prompt.values()), str(whole)]),
    ]
    columns = list(zip(*per_layer.values(), strict=True))
    first = 0
    for layer, counts in enumerate(columns):
        if layer + 1 < len(columns) and columns[layer + 1] == counts:
            continue
        name = str(layer) if layer == first else f"{first}\N{EN DASH}{layer}"
        bar = _bar(dict(zip(per_layer, counts, strict=True)), whole)
        lines.append(_line("td", [name, bar, *map(str, counts), str(sum(counts))]))
        first = layer + 1
    # Inherited explicitly: some pages give tables a colour of their own, black in a dark theme.
    style = "border-collapse:collapse;border:0;color:inherit;font:inherit"
    table = f'<table style="{style}">{"".join(lines)}</table>'
    style = "font-size:13px;line-height:1.4;overflow-x:auto"
    return f'<div style="{style}"><div>{html.escape(title)}</div>{table}</div>'


def _bar(counts: Mapping[str, int], whole: int) -> str:
    """One bar, as long as the whole prompt; what was dropped is grey."""
    pieces = "".join(
        f'<div title="{count} {name}" style="width:{100 * count / max(1, whole):.2f}%;'
        f'background:{MODALITIES[name]}"></div>'
        for name, count in counts.items()
    )
    style = f"display:flex;width:22em;max-width:50vw;height:.85em;background:{_GREY}"
    return f'<div style="{style}">{pieces}</div>'


def _line(tag: str, cells: Sequence[str]) -> str:
    aligned = [
        f'<{tag} style="{_CELL};text-align:{"right" if number > 1 else "left"}">{cell}</{tag}>'
        for number, cell in enumerate(cells)
    ]
    return f'<tr style="background:none">{"".join(aligned)}</tr>'
