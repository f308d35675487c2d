"""Tables in every width: the widest form that fits, and nothing lost in any."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from fastav_plugin.cli.tables.layout import (
    fill,
    print_command,
    print_facts,
    print_table,
    print_text,
)

COLUMNS = ["method", "answer", "layer 0", "FLOPs", "KV cache"]
ROWS = [
    [
        "dense",
        "The click is heard late, in the second half of the clip.",
        "341",
        "2.5 GFLOP",
        "1 kB",
    ],
    ["fastav+divprune", "late", "29", "404.2 MFLOP", "294.1 kB"],
]


def lines_of(
    columns: int,
    capsys: pytest.CaptureFixture[str],
    what: Callable[..., None],
    *given: Any,
    **named: Any,
) -> list[str]:
    """What is printed in a terminal of so many columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        what(*given, **named)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(cell_len, lines), default=0) <= columns
    return lines


def test_the_widest_form_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    whole = lines_of(120, capsys, print_table, COLUMNS, ROWS, left=(0, 1), prose=1)
    assert whole[0].split() == ["method", "answer", "layer", "0", "FLOPs", "KV", "cache"]
    assert whole[2].startswith("fastav+divprune  late  ")
    assert whole[2].endswith("  29  404.2 MFLOP  294.1 kB")
    wrapped = lines_of(80, capsys, print_table, COLUMNS, ROWS, left=(0, 1), prose=1)
    assert wrapped[1].startswith("dense            The click is heard late,")
    assert wrapped[2].split() == ["second", "half", "of", "the", "clip."]
    blocks = lines_of(50, capsys, print_table, COLUMNS, ROWS, left=(0, 1), prose=1)
    assert blocks == [
        "method: dense",
        "  answer: The click is heard late, in the second",
        "    half of the clip.",
        "  layer 0: 341        FLOPs: 2.5 GFLOP",
        "  KV cache: 1 kB",
        "",
        "method: fastav+divprune",
        "  answer: late",
        "  layer 0: 29         FLOPs: 404.2 MFLOP",
        "  KV cache: 294.1 kB",
    ]


def test_a_long_table_is_split_into_parts(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["layers", "dense", "FLOPs", "fastav", "FLOPs"]
    rows = [
        [str(layer), "2222", f"{layer}.5 GFLOP", "736", f"{layer}.1 GFLOP"] for layer in range(9)
    ]
    lines = lines_of(30, capsys, print_table, columns, rows, together=2)
    assert [line.split() for line in (lines[0], lines[11])] == [
        ["layers", "dense", "FLOPs"],
        ["layers", "fastav", "FLOPs"],
    ]
    assert lines[10] == ""
    assert len(lines) == 21
    few = lines_of(30, capsys, print_table, columns, rows[:2], together=2)
    assert [line.split()[0] for line in few if line] == ["layers", "0", "1"] * 2


def test_lines_that_begin_alike_are_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    """In parts nothing would say which lines belong together."""
    rows = [["3", f"first {count} tokens", "0.4", f"{count}.1 %"] for count in range(9)]
    lines = lines_of(25, capsys, print_table, ["layer", "rule", "P", "FLOPs"], rows, prose=1)
    assert lines[:4] == ["layer: 3", "  rule: first 0 tokens", "  P: 0.4  FLOPs: 0.1 %", ""]
    assert len(lines) == 9 * 4 - 1


def test_cells_of_two_lines_stay_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["dense", *(["100.0\n100..100"] * 4)]]
    lines = lines_of(30, capsys, print_table, ["setting", "a", "b", "c", "d"], rows)
    assert lines[2].split() == ["100..100"] * 2
    assert len(lines) == 7
    narrow = lines_of(15, capsys, print_table, ["setting", "a"], [["fastav+divprune", "9\n1..2"]])
    assert narrow == ["setting:", "fastav+divprune", "  a: 9 1..2"]


def test_an_empty_cell_has_no_name_in_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    columns, rows = (
        ["case", "pruner", "logits"],
        [["dense", "", "bit-identical"], ["fastav", "8 ms", ""]],
    )
    lines = lines_of(24, capsys, print_table, columns, rows)
    assert lines == [
        "case: dense",
        "  logits: bit-identical",
        "",
        "case: fastav",
        "  pruner: 8 ms",
    ]


def test_no_line_ends_within_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    text = "It takes 54.2 % of 47.9 s, 12 of 16 times: 2222 x 14, 736 and 1.4 MB."
    whole = ("54.2 %", "47.9 s", "12 of 16", "2222 x 14", "1.4 MB")
    for columns in range(12, 70):
        lines = lines_of(columns, capsys, print_text, text)
        assert " ".join(lines).split() == text.split()
        assert all(any(figure in line for line in lines) for figure in whole)


def test_a_sentence_is_filled_and_a_path_stays_whole() -> None:
    text = "Written: /a/very/long/path/of/a/picture.png, which took 54.2 % of 47.9 s."
    assert fill(text, 20).split("\n") == [
        "Written:",
        "/a/very/long/path/of/a/picture.png,",
        "which took 54.2 % of",
        "47.9 s.",
    ]


def test_a_mark_is_never_alone_in_a_line() -> None:
    """A terminal folds a path that is too long, and would put a comma behind it below it."""
    for length in range(6, 70):
        path = "/a/" + "b" * (length - 8) + "/name"[: length - 3]
        for mark in (",", ".", "',"):
            lines = fill(f"Settings: {path}{mark} with --method given", 20).split("\n")
            folded = [line[at : at + 20] for line in lines for at in range(0, len(line), 20)]
            assert all(re.search(r"\w", line) for line in folded), lines
            assert "".join(lines).replace(" ", "") == f"Settings:{path}{mark}with--methodgiven"


def test_a_command_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    command = "fastav bench --shape qwen2-7b --methods fastav,fastav+divprune --no-idle --threads 2"
    lines = lines_of(40, capsys, print_command, command)
    assert lines == [
        "fastav bench --shape qwen2-7b \\",
        "  --methods fastav,fastav+divprune \\",
        "  --no-idle --threads 2",
    ]
    assert lines_of(200, capsys, print_command, command) == [command]


def test_facts_wrap_behind_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "model type": "llava",
        "prompt": "50 text, 576 image tokens (choose with --text, --image)",
    }
    lines = lines_of(45, capsys, print_facts, facts)
    assert lines[0] == "model type  llava"
    assert lines[1].startswith("prompt      50 text, 576 image tokens")
    assert lines[2].startswith("            ")


def test_off_a_terminal_lines_are_of_any_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    title = "word " * 100 + "end"
    print_table(["method", *map(str, range(100))], [["dense", *["1.5 GFLOP"] * 100]], title=title)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == title


words = st.text("abcdefgh0123456789.%", min_size=1, max_size=9)
cells = st.lists(words, max_size=4).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(24, 120),
    st.integers(2, 7).flatmap(
        lambda width: st.tuples(
            st.lists(words, min_size=width, max_size=width),
            st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=12),
        )
    ),
    st.booleans(),
    st.integers(1, 2),
)
def test_nothing_is_lost(
    columns: int, table: tuple[list[str], list[list[str]]], prose: bool, together: int
) -> None:
    names, rows = table
    written = StringIO()
    with redirect_stdout(written), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        print_table(names, rows, prose=len(names) - 1 if prose else None, together=together)
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    given = Counter(word for row in rows for cell in row for word in cell.split())
    found = Counter(word.removesuffix(":") for line in lines for word in line.split())
    assert not given - found
    if any(any(row) for row in rows):
        assert not {name for name in names[:1]} - set(found)
