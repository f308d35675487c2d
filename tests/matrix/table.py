"""The section "Supported models" of model_overrides/README.md, written from outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.matrix.checks import Outcome
from tests.matrix.classes import CLASSES
from tests.matrix.listed import NOTES

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "model_overrides" / "README.md"
#: Repeats the summary, which is the first line of the section.
README = _ROOT / "README.md"
BEGIN, END = "<!-- supported models: begin -->", "<!-- supported models: end -->"
_SECTION = re.compile(f"{BEGIN}\n(.*?){END}", re.DOTALL)
_SUMMARY = re.compile(r"\d+ classes pass, \d+ are refused\.")
_NAME = re.compile(r"`(\w+)`")


def section() -> str:
    """What stands between the markers."""
    found = _SECTION.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"{PAGE} has lost its markers"
    return found.group(1)


def write(text: str) -> None:
    """Put a new table between the markers, and its summary into the README."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_SECTION.sub(lambda _: f"{BEGIN}\n{text}{END}", page), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(_SUMMARY.sub(summary(text), readme), encoding="utf-8")


def summary(text: str) -> str:
    """The sentence at the head of a table that says how many classes pass."""
    return text.partition("\n")[0]


def classes_in(text: str) -> set[str]:
    """Names of model classes that a table holds."""
    return set(_NAME.findall(text))


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Markdown: what works, then what is refused, grouped by reason."""
    by_class: dict[str, list[str]] = {}
    for model_type in outcomes:
        by_class.setdefault(CLASSES[model_type], []).append(model_type)
    works = {name: kinds for name, kinds in by_class.items() if outcomes[kinds[0]].methods}
    refused: dict[str, list[str]] = {}
    for name, kinds in by_class.items():
        if name not in works:
            refused.setdefault(reason(outcomes[kinds[0]]), []).append(f"`{name}`")
    lines = [
        f"{len(works)} classes pass, {len(by_class) - len(works)} are refused.",
        "",
        "| Class | model_type | Tried with | Layers | Methods |",
        "|---|---|---|---|---|",
    ]
    lines += [work_row(name, kinds, outcomes[kinds[0]]) for name, kinds in sorted(works.items())]
    lines += ["", "| Refused, because | Classes |", "|---|---|"]
    lines += [f"| {why} | {', '.join(sorted(names))} |" for why, names in sorted(refused.items())]
    return "\n".join(lines) + "\n"


def work_row(name: str, kinds: list[str], outcome: Outcome) -> str:
    """One class that works."""
    note = next((NOTES[kind] for kind in kinds if kind in NOTES), "")
    tried = ", ".join(outcome.media) + (f" ({note})" if note else "")
    methods = "all" if outcome.methods == "all" else "all without scores: DivPrune, fixed rules"
    return f"| `{name}` | {', '.join(kinds)} | {tried} | {outcome.layers} | {methods} |"


def reason(outcome: Outcome) -> str:
    """The reason without the name of the class, and without the remedy."""
    found = re.search(r"cannot be pruned: (.*)\.$", outcome.reason)
    return found.group(1) if found else outcome.reason
