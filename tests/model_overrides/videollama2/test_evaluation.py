"""fastav eval asks an official folder what AVHBench asks, sound or pictures alone too."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from fastav_plugin.cli import app


def test_eval(official: Path, heard: Path, tmp_path: Path) -> None:
    kinds = ("(Audio)", "(Audio_only)", "(Video_only)")
    rows = [
        {"video_id": heard.stem, "task": f"AV Hallucination {kind}", "text": "Who?", "label": "No"}
        for kind in kinds
    ]
    data = tmp_path / "avhbench.json"
    data.write_text(json.dumps(rows))
    call = ["eval", "--data", str(data), "--media", str(heard.parent), "--model", str(official)]
    call += ["--method", "fastav", "--max-new-tokens", "2", "--frames", "4", "--json"]
    result = CliRunner().invoke(app, [*call, "--set", "min_media_tokens=4"])
    assert result.exit_code == 0, result.output
    found = {part["task"]: part["rows"] for part in json.loads(result.stdout)["sets"]}
    tokens = {kind: found[f"AV Hallucination {kind}"][0]["tokens"] for kind in kinds}
    both, sound, pictures = tokens.values()
    assert both == sound + 8
    assert pictures == both - 1496
    for kind in kinds:
        dense, fastav = found[f"AV Hallucination {kind}"]
        assert dense["flops_ratio"] == 1 > fastav["flops_ratio"]
        assert fastav["uncut"] == 0
        assert fastav["kv_bytes"] < dense["kv_bytes"]
