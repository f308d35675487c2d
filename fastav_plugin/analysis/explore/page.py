"""Fills the page with its data and writes it: one HTML file that asks for no other."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.explore.data import page_data
from fastav_plugin.analysis.media_tokens import pictures_of
from fastav_plugin.display.palette import MODALITIES
from fastav_plugin.errors import ConfigError
from fastav_plugin.media.inputs import Media

FORMATS = (".html", ".htm")


def check_page(path: Path) -> None:
    """Raise ConfigError if a page cannot have that name."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"A page is written as {' or '.join(FORMATS)}, got '{path}'.")


def write_page(
    path: Path,
    outcomes: Sequence[Outcome],
    *,
    question: str,
    model: str,
    processor: Any,
    inputs: Mapping[str, Any],
    media: Media,
    title: str | None = None,
) -> dict[str, Any]:
    """Write the page of one prompt; return the data that it shows.

    Args:
        path: HTML file.
        outcomes: dense first, then one per method.
        question: what was asked.
        model: its name.
        processor: the model's.
        inputs: of generate().
        media: what was read of the files.
        title: heading instead of the question.

    Raises:
        ConfigError: a name that does not end in .html.
    """
    check_page(path)
    report = outcomes[0].report
    assert report is not None
    data = page_data(
        question=question,
        model=model,
        outcomes=outcomes,
        pictures=pictures_of(processor, inputs, media, report.token_map),
        waveform=media.waveform,
        title=title,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(data), encoding="utf-8")
    return data


def render(data: Mapping[str, Any]) -> str:
    """The page as text. Nothing in `data` can end its script or become markup."""
    colours = "".join(f"--{name}: {colour};" for name, colour in MODALITIES.items())
    parts = {
        "title": html.escape(data["title"]),
        "style": f":root {{ {colours} }}\n{_read('page.css')}",
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "script": _read("page.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
