from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Row, join_rows, parse_rows, read_table
from fastav_plugin.evaluation.sample import Sample, read_samples

Objects = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5)), min_size=2)


def write(folder: Path, text: str) -> Path:
    path = folder / "data.json"
    path.write_text(text, encoding="utf-8")
    return path


@given(Objects, st.sampled_from([None, 0, 2]))
def test_lists_and_lines_hold_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], indent: int | None
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    listed = read_table(write(folder, json.dumps(rows, indent=indent)))
    assert [row.values for row in listed.rows] == rows
    lines = "".join(json.dumps(row) + "\n\n" for row in rows)
    table = read_table(write(folder, lines))
    assert [row.values for row in table.rows] == rows
    assert [row.index for row in table.rows] == [row.index for row in listed.rows]
    assert not listed.faults
    assert not table.faults


def test_places_are_those_an_editor_shows(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, '[\n {"a": "x\\ny",\n  "b": 2}, 7,\n\n {"c": []}\n]\n'))
    assert [row.place for row in table.rows] == ["[0], line 2", "[2], line 5"]
    assert [str(fault) for fault in table.faults] == [
        "[1], line 3: A row must be a JSON object, got 7."
    ]
    assert [row.index for row in table.rows] == [0, 2]
    table = read_table(write(tmp_path, '\ufeff{"a": 1}\n\nnot json\n[3]\n{"b": 2}'))
    assert [row.place for row in table.rows] == ["line 1", "line 5"]
    assert [fault.place for fault in table.faults] == ["line 3", "line 4"]
    assert "Not valid JSON" in table.faults[0].reason
    assert table.rows[1].index == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('[{"a": 1},\n{"b": 2},\n{"c": }]', r"breaks off at \[2\], line 3"),
        ('[{"a": 1},\n{"b"', r"breaks off at \[1\], line 2"),
        ('[{"a": 1}\n{"b": 2}]', r"breaks off after \[0\], line 1"),
        ('[{"a": 1}', "breaks off after"),
        ("[", r"breaks off at \[0\]"),
        ('[{"a": 1}] x', "continues after"),
    ],
)
def test_a_file_that_breaks_off_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table(write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data file"):
        read_table(tmp_path / "missing.json")
    (tmp_path / "data.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="data file"):
        read_table(tmp_path / "data.json")


def test_an_empty_list_has_no_rows(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "[ ]")).rows == []


def test_one_object_is_a_row_or_a_document(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, '{"a": 1}')).document is None
    assert read_table(write(tmp_path, '{\n "images": []\n}')).document == {"images": []}


def test_answers_of_another_file(tmp_path: Path) -> None:
    questions = read_table(write(tmp_path, '[{"id": 1}, {"id": "2"}, {"no": 3}, {"id": 4}]'))
    rows = '[{"id": "1", "a": "x"}, {"id": 2, "a": "y"}, {"id": 5}, {"id": 5}, {"a": "z"}, 0]'
    found = join_rows(questions, read_table(write(tmp_path, rows)), "id")
    assert [(row.index, row.values) for row in found.rows] == [
        (0, {"id": 1, "a": "x"}),
        (1, {"id": "2", "a": "y"}),
    ]
    assert [fault.place for fault in found.faults] == [
        "answers, [5], line 1",
        "answers, [3], line 1",
        "answers, [4], line 1",
        "[2], line 1",
        "[3], line 1",
        "answers, [2], line 1",
    ]


def test_a_question_that_is_there_twice(tmp_path: Path) -> None:
    questions = read_table(write(tmp_path, '[{"id": 1}, {"id": 1}]'))
    found = join_rows(questions, read_table(write(tmp_path, '[{"id": 1, "a": "x"}]')), "id")
    assert [row.index for row in found.rows] == [0]
    assert [str(fault) for fault in found.faults] == ["[1], line 1: `id` '1' occurs twice."]


@pytest.mark.parametrize("value", [3, None, "", " ", ["x"]])
def test_fields_that_are_no_text(value: object) -> None:
    row = Row(0, "line 1", {"a": value})
    with pytest.raises(ConfigError, match="`a` must be text"):
        row.text("b", "a")
    with pytest.raises(ConfigError, match="no `b` or `c`"):
        row.text("b", "c")


@pytest.mark.parametrize("value", [3, None, [], [""], [1], {}])
def test_fields_that_are_no_texts(value: object) -> None:
    with pytest.raises(ConfigError, match="`a` must"):
        Row(0, "line 1", {"a": value}).texts("a")


def test_parsing_stops_at_the_limit() -> None:
    rows = [Row(i, f"line {i}", {"a": "x"} if i % 2 else {}) for i in range(9)]
    found, faults = parse_rows(rows, lambda row: (row.text("a"), row.index), limit=2)
    assert found == [("x", 1), ("x", 3)]
    assert [fault.place for fault in faults] == ["line 0", "line 2"]


def test_samples(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.wav").touch()
    path = write(
        tmp_path,
        '{"video": "a", "question": " What? ", "answer": 3}\n'
        f'{{"audio": "{tmp_path / "b.wav"}", "video": "a.mp4", "question": "Which?"}}\n'
        '{"question": "Why?"}\n{"video": "c.mp4", "question": "Who?"}\n{"video": "a"}\n',
    )
    samples, faults = read_samples(path)
    assert samples == [
        Sample("What?", video=tmp_path / "a.mp4"),
        Sample("Which?", video=tmp_path / "a.mp4", audio=tmp_path / "b.wav"),
    ]
    assert [fault.place for fault in faults] == ["line 3", "line 4", "line 5"]
    assert "none of `video`, `image`, `audio`" in faults[0].reason
    assert f"'c.mp4' is not in '{tmp_path}'" in faults[1].reason
    assert "no `question`" in faults[2].reason
    other = tmp_path / "other"
    other.mkdir()
    assert read_samples(path, [other, tmp_path])[0] == samples
    assert len(read_samples(path, [other])[0]) == 0
