from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from fastav_plugin.lab.bench.clock import PARTS, spread
from fastav_plugin.lab.bench.peers import run_layer_twice
from fastav_plugin.lab.bench.plan import BenchPlan, scale
from fastav_plugin.lab.bench.shapes import SHAPES, draw_ids, find_shape, make_model
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.planning.dry_run import PromptSize
from tests.support.checkpoints import save_llava
from tests.support.programs import with_checkout

SMALL = ("bench", "--shape", "tiny", "--text", 20, "--video", 80, "--audio", 120, "--repeats", 2)


def test_cases_that_do_nothing_give_the_dense_bits(invoke_json: Callable[..., Any]) -> None:
    found = invoke_json(*SMALL, "--methods", "fastav,divprune", "--new-tokens", 3)
    assert (found["shape"], found["repeats"], found["machine"]["gpu"]) == ("tiny", 2, None)
    (point,) = found["points"]
    assert (point["batch"], point["prompt"]["tokens"]) == (1, 220)
    cases = {case["case"]: case for case in point["cases"]}
    assert list(cases)[-2:] == ["fastav", "divprune"]
    idle = [case for name, case in cases.items() if name.startswith("dense")]
    assert len(idle) == 4
    assert all(case["bit_identical"] and case["theory"] == 1 for case in idle)
    for case in cases.values():
        assert len(case["seconds"]) == 2
        assert case["median_seconds"] > 0
        assert case["decode_seconds"] > 0
    for name in ("fastav", "divprune"):
        assert cases[name]["theory"] < 0.9
        assert cases[name]["kv_bytes"] < cases["dense"]["kv_bytes"]
        assert set(cases[name]["pruner_parts"]) == set(PARTS)
        assert 0 < cases[name]["pruner_seconds"] < cases[name]["median_seconds"] * 2
    assert cases["fastav"]["pruner_parts"]["scoring"] > 0
    assert cases["divprune"]["pruner_parts"]["scoring"] == 0


def test_a_clock_that_makes_the_device_wait_has_its_own_run(
    monkeypatch: pytest.MonkeyPatch, invoke_json: Callable[..., Any]
) -> None:
    """As on a GPU: neither times nor memory of that run count."""
    monkeypatch.setattr(BenchPlan, "slow_clock", True)
    found = invoke_json(*SMALL, "--methods", "fastav", "--no-idle")
    dense, fastav = found["points"][0]["cases"]
    assert len(fastav["seconds"]) == len(dense["seconds"]) == 2
    assert fastav["pruner_parts"]["scoring"] > 0
    assert not dense["pruner_parts"]


def test_a_grid_of_batches_and_lengths(invoke: Callable[..., Result], tmp_path: Path) -> None:
    """Each batch size with each length, in a table, a file and two pictures."""
    grid = ("--batch", "1,2", "--lengths", "120,220", "--methods", "fastav")
    picture, data = tmp_path / "curves.svg", tmp_path / "new" / "bench.json"
    result = invoke(*SMALL, *grid, "--new-tokens", 2, "--plot", picture, "--output", data)
    assert result.exit_code == 0, result.output
    points = json.loads(data.read_text())["points"]
    sizes = [(point["batch"], point["prompt"]["tokens"]) for point in points]
    assert sizes == [(1, 120), (1, 220), (2, 120), (2, 220)]
    for point in points:
        assert [case["case"] for case in point["cases"]] == ["dense", "fastav"]
    one, two = points[1]["cases"][1], points[3]["cases"][1]
    assert (two["kv_bytes"], two["theory"]) == (2 * one["kv_bytes"], one["theory"])
    assert "prompt tokens" in picture.read_text()
    bars = tmp_path / "bars.svg"
    found = invoke(*SMALL, "--methods", "divprune", "--repeats", 1, "--no-idle", "--plot", bars)
    assert found.exit_code == 0, found.output
    assert "FLOPs, in theory" in bars.read_text()


def test_a_rule_of_frames(invoke_json: Callable[..., Any]) -> None:
    """Frames of the prompt that is scaled: 80 of video split into 10, 800 into 100."""
    frames = ("--video", 80, "--audio", 0, "--frames", 10, "--rule", "video=first 2 frames")
    found = invoke_json(
        *SMALL[:5], *frames, "--lengths", "100,820", "--methods", "fastav", "--repeats", 1
    )
    tokens = [point["prompt"] for point in found["points"]]
    assert [(prompt["video"], prompt["frames"]) for prompt in tokens] == [(80, 10), (800, 100)]
    short, long = (point["cases"][1] for point in found["points"])
    assert long["theory"] < short["theory"] < 1
    assert 0 <= long["call_bytes"] <= long["peak_bytes"]


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.startswith("qwen2-")])
def test_every_family_of_shapes_runs(
    monkeypatch: pytest.MonkeyPatch, invoke_json: Callable[..., Any], name: str
) -> None:
    """A shape's own configuration and class, made narrow."""
    shape = find_shape(name)
    config = shape.config()
    text = config.get_text_config()
    text.num_hidden_layers, text.hidden_size, text.intermediate_size = 4, 256, 128
    text.num_attention_heads, text.num_key_value_heads = 2, 1
    text.vocab_size = min(text.vocab_size, 32064)
    if hasattr(config, "audio_config"):
        config.audio_config.output_dim = config.vision_config.out_hidden_size = 256
    monkeypatch.setitem(SHAPES, "narrow", dataclasses.replace(shape, config=lambda: config))
    found = invoke_json("bench", "--shape", "narrow", "--repeats", 1, "--warm-up", 0, "--no-idle")
    cases = found["points"][0]["cases"]
    assert [case["case"] for case in cases] == ["dense", *shape.methods]
    assert all(case["theory"] < 1 for case in cases[1:])


def test_the_table(invoke: Callable[..., Result]) -> None:
    threads = torch.get_num_threads()
    result = invoke(*SMALL, "--methods", "fastav", "--threads", threads)
    assert result.exit_code == 0, result.output
    assert "tiny, bfloat16, batch 1, 220 tokens (80 video, 120 audio)" in result.stdout
    assert "bit-identical" in result.stdout
    assert "DIFFERENT" not in result.stdout


def test_a_checkpoint_folder(invoke_json: Callable[..., Any]) -> None:
    """Any model: here the testbed's, with eager attention in float32."""
    found = invoke_json(
        *("bench", "--shape", MODEL_PATH, "--dtype", "float32", "--attention", "eager"),
        *("--repeats", 1, "--warm-up", 0, "--video", 100, "--audio", 40, "--methods", "fastav"),
    )
    assert found["attention"] == "eager"
    (point,) = found["points"]
    assert point["cases"][-1]["theory"] < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "the defaults of the shape 'tiny'"),
        (("--keep-ratio", 0.3), "the defaults of the shape 'tiny', with --keep-ratio given"),
        (("--methods", "divprune", "--json"), "the defaults of the shape 'tiny', with --methods"),
        (("--preset", "balanced"), "the preset 'balanced' for audio-visual models"),
    ],
)
def test_the_line_about_settings(
    invoke: Callable[..., Result], options: tuple[Any, ...], words: str
) -> None:
    result = invoke(*SMALL[:-1], 1, "--warm-up", 0, "--no-idle", *options)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Settings: ")]
    assert line == f"Settings: {words}{' given' if words.endswith('--methods') else ''}"
    if "--json" in options:
        json.loads(result.stdout)


def test_published_versions_cost_more_and_keep_the_same(invoke_json: Callable[..., Any]) -> None:
    ratio = ("--audio-keep-ratio", 0.5)
    found = invoke_json(*SMALL, "--methods", "fastv,divprune", "--peers", "--no-idle", *ratio)
    cases = {case["case"]: case for case in found["points"][0]["cases"]}
    assert list(cases) == ["dense", "fastv", "fastv as published"] + [
        "divprune",
        "divprune as published",
    ]
    for name in ("fastv", "divprune"):
        ours, theirs = cases[name], cases[f"{name} as published"]
        assert (ours["theory"], ours["kv_bytes"]) == (theirs["theory"], theirs["kv_bytes"])
        assert ours["theory"] < 0.9


def test_the_layer_runs_twice_at_prefill_only() -> None:
    model: Any = make_model("tiny", dtype="float32")
    calls: list[int] = []
    attention = model.model.layers[1].self_attn
    count = attention.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["hidden_states"].shape[1]),
        with_kwargs=True,
    )
    ids = draw_ids(model, 1, 12)
    stock = model.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert calls == [12, 1, 1]
    handle = run_layer_twice(model)
    assert torch.equal(model.generate(input_ids=ids, max_new_tokens=3, do_sample=False), stock)
    assert calls == [12, 1, 1, 12, 12, 1, 1]
    handle.remove()
    count.remove()
    assert attention.config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_the_script_for_a_whole_machine(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = tmp_path / "fastav"
    command.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -W ignore -c "
        "'from fastav_plugin.cli import main; main()' \"$@\"\n"
    )
    command.chmod(0o755)
    done = subprocess.run(
        [str(root / "deploy/benchmarks/run.sh"), "--shape", "tiny", "--device", "cpu"]
        + ["--output", str(tmp_path / "results")],
        env={**os.environ, "FASTAV": str(command), "PYTHONPATH": with_checkout()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, points in (("tiny-batch1", 1), ("tiny-lengths", 2), ("tiny-peers", 1)):
        found = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert len(found["points"]) == points
        assert found["machine"]["torch"] == torch.__version__
        assert (tmp_path / "results" / f"{name}.png").stat().st_size > 10_000


def test_wrong_options(fail: Callable[..., str]) -> None:
    assert "Known: tiny, qwen2-0.5b" in fail("bench", "--shape", "gpt-9")
    assert "Known: bfloat16" in fail("bench", "--shape", "tiny", "--dtype", "int3")
    assert "Unknown method" in fail("bench", "--shape", "tiny", "--methods", "magic")
    assert "`--keep-ratio` must" in fail("bench", "--shape", "tiny", "--keep-ratio", 0)
    assert "numbers separated" in fail("bench", "--shape", "tiny", "--batch", "1,two")
    assert "Cannot write" in fail("bench", "--shape", "tiny", "--output", __file__ + "/x.json")
    assert "cannot be made 10 tokens long" in fail("bench", "--shape", "tiny", "--lengths", "10")
    assert "Cannot make" in fail("bench", "--shape", "tiny", "--device", "cuda:7")
    assert "Cannot make" in fail("bench", "--shape", "tiny", "--attention", "magic")
    clip = ("bench", "--shape", "videollama2-av-tiny")
    assert "--batch cannot be used" in fail(*clip, "--batch", "2")


def test_a_folder_has_a_prompt_that_its_model_takes(tmp_path: Path) -> None:
    save_llava(tmp_path)
    prompt = find_shape(str(tmp_path)).prompt
    assert (prompt.image, prompt.video, prompt.audio) == (576, 0, 0)
    assert find_shape(str(MODEL_PATH)).prompt == PromptSize()


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_configurations(name: str) -> None:
    shape = find_shape(name)
    text = shape.config().get_text_config()
    assert text.hidden_size % text.num_attention_heads == 0
    assert shape.prompt.token_map().length < text.max_position_embeddings


@pytest.mark.parametrize(
    ("name", "billions"),
    [("qwen2-7b", 7.6), ("llava-1.5-7b", 6.8), ("qwen2.5-omni-3b", 3.4), ("qwen2.5-omni-7b", 7.6)],
)
def test_decoders_have_their_published_size(name: str, billions: float) -> None:
    shape = find_shape(name)
    with torch.device("meta"):
        model = shape.model._from_config(shape.config())
    towers = ("vision_tower", "visual", "audio_tower", "multi_modal_projector")
    own = [value for key, value in model.named_parameters() if not any(t in key for t in towers)]
    assert sum(value.numel() for value in own) / 1e9 == pytest.approx(billions, abs=0.1)


def test_weights_are_made_in_their_dtype_and_seeded() -> None:
    state = torch.get_rng_state()
    first, again = make_model("tiny").state_dict(), make_model("tiny").state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {tensor.dtype for tensor in first.values()} == {torch.bfloat16}


def test_drawn_words_are_no_placeholders() -> None:
    model: Any = make_model(str(MODEL_PATH))
    ids = draw_ids(model, 3, 5000)
    placeholders = (model.config.image_token_id, model.config.video_token_id)
    assert ids.shape == (3, 5000)
    assert not torch.isin(ids, torch.tensor(placeholders)).any()


def test_scaled_prompts_keep_their_shares() -> None:
    found = scale(PromptSize(text=50, video=2160, audio=750, frames=30), 20350)
    assert found.video / found.frames == 72
    assert found.token_map().length == pytest.approx(20350, abs=72)
    assert found.audio / found.video == pytest.approx(750 / 2160, rel=0.01)


def test_spread() -> None:
    assert spread([3.0]) == 0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 2
