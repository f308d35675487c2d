from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from typer.testing import Result

from fastav_plugin.bench import SHAPES, make_config, make_model, spread

SMALL = ("--shape", "tiny", "--text", 20, "--video", 80, "--audio", 120, "--repeats", 2)


def test_cases_that_do_nothing_give_the_dense_bits(invoke_json: Callable[..., Any]) -> None:
    found = invoke_json("bench", *SMALL, "--methods", "fastav,divprune")
    assert (found["shape"], found["repeats"], found["prompt"]["tokens"]) == ("tiny", 2, 220)
    cases = {case["case"]: case for case in found["cases"]}
    assert list(cases)[-2:] == ["fastav", "divprune"]
    idle = [case for name, case in cases.items() if name.startswith("dense")]
    assert len(idle) == 4
    assert all(case["bit_identical"] and case["theory"] == 1 for case in idle)
    for case in cases.values():
        assert len(case["seconds"]) == 2
        assert case["median_seconds"] > 0
    for name in ("fastav", "divprune"):
        assert cases[name]["theory"] < 0.9
        assert 0 < cases[name]["pruner_seconds"] < cases[name]["median_seconds"] * 2


def test_the_table(invoke: Callable[..., Result]) -> None:
    threads = torch.get_num_threads()
    result = invoke("bench", *SMALL, "--methods", "fastav", "--threads", threads)
    assert result.exit_code == 0, result.output
    assert "tiny, bfloat16, batch 1, 220 tokens" in result.stdout
    assert "dense bits" in result.stdout
    assert "DIFFERENT" not in result.stdout


def test_wrong_options(fail: Callable[..., str]) -> None:
    assert "Known: tiny, qwen2-0.5b" in fail("bench", "--shape", "gpt-9")
    assert "Known: bfloat16" in fail("bench", "--shape", "tiny", "--dtype", "int3")
    assert "Unknown method" in fail("bench", "--shape", "tiny", "--methods", "magic")
    assert "visual_keep_ratio" in fail("bench", "--shape", "tiny", "--keep-ratio", 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_configurations(shape: str) -> None:
    config = make_config(shape)
    assert config.hidden_size % config.num_attention_heads == 0


def test_weights_are_made_in_their_dtype_and_seeded() -> None:
    state = torch.get_rng_state()
    first, again = make_model("tiny").state_dict(), make_model("tiny").state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {tensor.dtype for tensor in first.values()} == {torch.bfloat16}


def test_spread() -> None:
    assert spread([3.0]) == 0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 2
