"""A text put into the model's mouth, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from fastav_plugin import FastAVConfig
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.lab.testbed.training.longer_answers import (
    COMPARED,
    FIRST,
    SECOND,
    dictate,
    measure,
)
from fastav_plugin.media.clips import read_clip


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model()


def test_dictated_logits_are_those_of_one_forward(model: Any) -> None:
    inputs = prepare_inputs(build_processor(), *read_clip(SAMPLES[0].path), "Which sound is heard?")
    text = torch.tensor([20, 30, 3, 5])
    found = dictate(model, inputs, text, None)
    ids = torch.cat([inputs["input_ids"], text[None, :-1]], dim=1)
    whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        expected = model(**whole).logits[0, -len(text) :]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    keep_all = FastAVConfig(method="fastav", global_rule="all", fine_drop_ratio=0.0)
    assert torch.equal(dictate(model, inputs, text, keep_all), found)


def test_methods_are_compared_with_dense(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    build_processor().save_pretrained(tmp_path)
    rules = {"video": "first 16 tokens", "audio": "first 10 tokens"}
    FastAVConfig(global_layer=5, global_rule=rules).save_pretrained(tmp_path)
    app = typer.Typer()
    app.command()(measure)
    result = CliRunner().invoke(app, ["--model", str(tmp_path), "--clips", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])["methods"]
    assert tuple(found) == COMPARED
    assert found["none"][FIRST] == {"kl": 0, "agreement": 1}
    for method in COMPARED[1:]:
        assert found[method][SECOND]["kl"] > 0
