from __future__ import annotations

from pathlib import Path

import pytest

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers_file import AnswerLog, checkpoint_digest
from fastav_plugin.evaluation.records import Answer, Question, Record

HEADER = {"suite": "testbed", "model": "abc", "settings": {"fastav": {"method": "fastav"}}}


def record(seed: int, task: str = "visible", word: str = "yes") -> Record:
    answer = Answer(word, word, 0.0, 0.125, [9], [4], [3], 0.5, 640, 0.25, 2, "short prompt")
    question = Question(
        "clips", f"{seed}/{task}", str(seed), task, "Is it?", ("no",), "choice", ("no", "yes"), 0.5
    )
    return Record(question, {"dense": answer})


def written(path: Path, *records: Record) -> Path:
    with AnswerLog(path, HEADER) as file:
        for item in records:
            file.append(item)
    return path


def read(path: Path) -> list[Record]:
    with AnswerLog(path, HEADER) as file:
        return list(file.records.values())


def test_records_come_back(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "a.jsonl", record(1), record(1, "heard"), record(2))
    records = [record(1), record(1, "heard"), record(2)]
    with AnswerLog(path, HEADER) as again:
        assert list(again.records.values()) == records
        again.append(record(3))
        again.close()
    assert len(path.read_text().splitlines()) == 5
    assert read(path) == [*records, record(3)]


def test_nothing_is_written_without_a_path() -> None:
    file = AnswerLog(None, HEADER)
    file.append(record(1))
    file.close()
    assert file.records == {record(1).question.key: record(1)}


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_half_a_line_at_the_end_is_thrown_away(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path / "a.jsonl", record(1))
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[1]
    path.write_bytes(whole + line[:kept])
    with AnswerLog(path, HEADER) as file:
        assert list(file.records) == [record(1).question.key]
        file.append(record(2))
    assert read(path) == [record(1), record(2)]


def test_nothing_is_counted_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", record(1), record(1, word="no"))
    assert read(path) == [record(1)]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"model": "xyz"}, "model differ"),
        ({"settings": {}, "model": "xyz"}, "model, settings differ"),
        ({"device": "cuda"}, "device differ"),
    ],
)
def test_another_model_or_other_settings_are_refused(
    tmp_path: Path, change: dict[str, object], names: str
) -> None:
    path = written(tmp_path / "a.jsonl", record(1))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=names):
        AnswerLog(path, {**HEADER, **change})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    ["notes of mine\n", "notes of mine", "[1]\n{}\n", "7\n", "\n", '"my suite"\n', '["suite"]\n'],
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match="not written by"):
        AnswerLog(path, HEADER)
    assert path.read_text() == content


@pytest.mark.parametrize("line", ["{}", "rubbish", "[]", '{"answers": {"dense": {}}}'])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "a.jsonl", record(1))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match="Line 3 of"):
        AnswerLog(path, HEADER)


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConfigError, match="Cannot use"):
        AnswerLog(tmp_path / "plain" / "a.jsonl", HEADER)


def test_the_digest_is_that_of_the_model_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"12")
    first = checkpoint_digest(tmp_path)
    (tmp_path / "fastav_config.json").write_text("{}")
    (tmp_path / "README.md").write_text("about")
    assert checkpoint_digest(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"13")
    assert checkpoint_digest(tmp_path) != first
