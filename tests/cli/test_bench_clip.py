from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from fastav_plugin import FastAVConfig
from fastav_plugin.lab.bench.clip import CLIP_SHAPES, make_clip_config, make_clip_model
from fastav_plugin.lab.bench.clock import forget_peak_memory, peak_memory
from fastav_plugin.model_overrides.videollama2 import VideoLlama2Override
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens

SMALL = ("bench", "--shape", "videollama2-av-tiny", "--repeats", 1, "--methods", "fastav")


def test_a_whole_model_on_a_clip(invoke_json: Callable[..., Any]) -> None:
    found = invoke_json(*SMALL, "--repeats", 2)
    assert found["media_tokens"] == {"video": 676, "audio": 1496}
    assert found["encode_seconds"] > 0
    assert found["paper"]["flops_ratio"] == 0.56
    dense, fastav = found["cases"]
    assert dense["tokens_per_layer"] == [2222] * 6
    assert fastav["tokens_per_layer"] == [2222, 2222, 2222, 736, 598, 488]
    assert (dense["time_ratio"], dense["flops_ratio"]) == (1, 1)
    assert 0 < fastav["time_ratio_with_towers"]
    assert 0.5 < fastav["flops_ratio"] < 0.6
    for case in (dense, fastav):
        assert len(case["prefill_seconds_all"]) == 2
        if Path("/proc/self/status").exists():
            assert case["peak_bytes"] > 100_000_000


def test_the_table(invoke: Callable[..., Result], clip: Path) -> None:
    result = invoke(*SMALL, "--clip", clip, "--frames", 4, "--text", 30)
    assert result.exit_code == 0, result.output
    flat = " ".join(result.stdout.split())
    assert "4 frames: 338 video, 1496 audio, 30 text" in flat
    assert "dense: tokens per layer 1864 x 6" in flat
    assert "The FastAV paper, on a GPU: 56.0 %" in flat


def test_wrong_options(fail: Callable[..., str], clip: Path, tmp_path: Path) -> None:
    assert "Known: bfloat16" in fail(*SMALL, "--dtype", "int3")
    assert "at least 15 tokens, got 3" in fail(*SMALL, "--text", 3)
    assert "Unknown method" in fail(*SMALL[:-1], "magic")
    assert "--video and --audio cannot be used" in fail(*SMALL, "--video", 3, "--audio", 4)
    assert "--clip cannot be used" in fail("bench", "--shape", "tiny", "--clip", clip)
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    assert "Cannot read" in fail(*SMALL, "--clip", tmp_path / "broken.mp4")


def test_the_true_shape_gives_the_papers_flops() -> None:
    config = make_clip_config("videollama2-av")
    assert config.text_config.num_hidden_layers == 28
    assert config.video_tokens(8) == 676
    assert config.patches_per_side == 27
    cost = VideoLlama2Override().cost(config)
    (counts,), _ = plan_tokens(FastAVConfig.for_model(config), PromptSize().token_map(), 28)
    assert cost.macs(counts) / cost.macs([2222] * 28) == pytest.approx(0.56, abs=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_weights_are_made_in_their_dtype(dtype: str) -> None:
    model = make_clip_model("videollama2-av-tiny", dtype)
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}
    state = make_clip_model("videollama2-av-tiny", dtype).state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert set(CLIP_SHAPES) == {"videollama2-av", "videollama2-av-tiny"}


@pytest.mark.skipif(peak_memory() is None, reason="this system does not tell")
def test_peak_memory_is_of_the_time_since() -> None:
    forget_peak_memory()
    before = peak_memory()
    held = torch.ones(50_000_000)
    during = peak_memory()
    del held
    forget_peak_memory()
    after = peak_memory()
    assert before is not None and during is not None and after is not None
    assert during - before > 190_000_000
    assert during - after > 190_000_000
