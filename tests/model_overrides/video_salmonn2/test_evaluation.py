"""fastav eval asks the authors' folders of both families about a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastav_plugin.cli import app
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
def test_eval(name: str, clips: dict[str, Path], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "published", name, tiny.build(name))
    tiny.tokenizer().save_pretrained(folder)
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "Why?"}]
    rows = [{"video": clips[clip].name, "conversations": turns} for clip in ("ten", "three")]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows))
    call = ["eval", "--data", str(data), "--media", str(clips["ten"].parent), "--json"]
    call += ["--model", str(folder), "--method", "fastav", "--max-new-tokens", "2"]
    result = CliRunner().invoke(app, [*call, "--set", "min_media_tokens=1"])
    assert result.exit_code == 0, result.output
    [part] = json.loads(result.stdout)["sets"]
    assert (part["questions"], part["clips"]) == (2, 2)
    dense, fastav = part["rows"]
    assert fastav["flops_ratio"] < dense["flops_ratio"] == 1
    assert fastav["kept"]["visual"] < dense["kept"]["visual"]
