from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from typer.testing import Result

from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer, vocabulary
from tests.support.checkpoints import save_llava

QUESTION = ("--question", "Which sound is heard?", "--max-new-tokens", 3)
RULE = ("--rule", "video=first 30 tokens, audio=first 20 tokens")


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "rgb24"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def test_several_methods_in_one_call(
    invoke_json: Callable[..., Any], checkpoint: Path, clip: Path
) -> None:
    methods = ("-m", "fastav", "-m", "divprune", "-m", "dense", "-m", "fastav+divprune")
    found = invoke_json(
        "generate", "--model", checkpoint, "--video", clip, *QUESTION, *RULE, *methods
    )
    outcomes = found["outcomes"]
    assert [outcome["method"] for outcome in outcomes] == [
        *("dense", "fastav", "divprune", "fastav+divprune")
    ]
    dense = outcomes[0]
    assert set(dense["modality_per_layer"]) == {"text", "video", "audio"}
    for outcome in outcomes:
        assert isinstance(outcome["answer"], str)
        assert len(outcome["prefill_seconds_all"]) == 1
        assert outcome["prefill_macs"] <= dense["prefill_macs"]
        # Keys and values of two heads of 32 numbers in float32, as the rows say.
        rows = sum(outcome["tokens_per_layer"])
        assert outcome["kv_bytes"] == rows * 2 * 2 * 32 * 4
    assert outcomes[1]["modality_per_layer"]["audio"][4] == 20
    assert outcomes[3]["flops_ratio"] < outcomes[1]["flops_ratio"] < 1


# The processor hands torch tensors to numpy's broadcast_to.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("sound", ["separate", "interleaved", "none"])
def test_the_sound_of_a_video(
    invoke_json: Callable[..., Any], checkpoint: Path, clip: Path, sound: str
) -> None:
    found = invoke_json(
        "generate", "--model", checkpoint, "--video", clip, "--sound", sound, *QUESTION, *RULE
    )
    counts = found["outcomes"][0]["modality_per_layer"]
    assert ("audio" in counts) == (sound != "none")


def test_sound_alone(invoke: Callable[..., Result], checkpoint: Path, clip: Path) -> None:
    result = invoke(
        *("generate", "--model", checkpoint, "--audio", clip, *QUESTION),
        *("--set", "min_media_tokens=200"),
    )
    assert result.exit_code == 0, result.output
    assert "fastav: nothing was cut, because" in result.stderr
    assert "KV cache" in result.stdout


def test_fewer_frames(invoke_json: Callable[..., Any], checkpoint: Path, clip: Path) -> None:
    arguments = ("generate", "--model", checkpoint, "--video", clip, *QUESTION, *RULE)
    many = invoke_json(*arguments, "--fps", 4)["outcomes"][0]["modality_per_layer"]
    few = invoke_json(*arguments, "--fps", 4, "--frames", 2)["outcomes"][0]["modality_per_layer"]
    assert few["video"][0] < many["video"][0]


def test_another_family_with_its_own_processor(
    invoke_json: Callable[..., Any], fail: Callable[..., str], tmp_path: Path, picture: Path
) -> None:
    save_llava(tmp_path)
    found = invoke_json(
        "generate", "--model", tmp_path, "--image", picture, *QUESTION, "--rule", "first 40 tokens"
    )
    counts = [outcome["modality_per_layer"]["image"] for outcome in found["outcomes"]]
    assert counts == [[144] * 4, [144, 144, 40, 36]]
    line = fail("generate", "--model", tmp_path, "--audio", picture, *QUESTION)
    assert "holds no sound" in line


def test_a_video_family(
    invoke_json: Callable[..., Any], fail: Callable[..., str], tmp_path: Path, clip: Path
) -> None:
    ids = vocabulary()
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(ids),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|IMAGE|>"],
        video_token_id=ids["<|VIDEO|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(tmp_path)
    size = {"shortest_edge": 112**2, "longest_edge": 112**2}
    Qwen2_5_VLProcessor(  # type: ignore[no-untyped-call]
        image_processor=Qwen2VLImageProcessor(size=dict(size)),
        video_processor=Qwen2VLVideoProcessor(size=dict(size)),
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(tmp_path)
    arguments = ("generate", "--model", tmp_path, "--video", clip, *QUESTION)
    found = invoke_json(*arguments, "--rule", "video=first 1 frames", "--set", "min_media_tokens=8")
    dense, pruned = (outcome["modality_per_layer"] for outcome in found["outcomes"])
    assert set(dense) == {"text", "video"}
    assert pruned["video"][2] * 2 == dense["video"][2]
    line = fail("generate", "--model", tmp_path, "--audio", clip, *QUESTION)
    assert "takes no audio" in line


def test_a_text_model_has_no_processor(
    fail: Callable[..., str], tmp_path: Path, clip: Path
) -> None:
    config = Qwen2Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    line = fail("generate", "--model", tmp_path, "--video", clip, *QUESTION)
    assert "no processor of media" in line


def test_wrong_options(fail: Callable[..., str], checkpoint: Path, clip: Path) -> None:
    arguments = ("generate", "--model", checkpoint, "--video", clip, *QUESTION)
    assert "Unknown method 'x'" in fail(*arguments, "--method", "x")
    assert "`--sound` must be one of" in fail(*arguments, "--sound", "loud")
    assert "`--dtype` must be one of" in fail(*arguments, "--dtype", "int3")
    assert "does not exist" in fail("generate", "--model", checkpoint / "no", *QUESTION)


def test_broken_files(
    fail: Callable[..., str], checkpoint: Path, tmp_path: Path, clip: Path
) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no media")
    line = fail("generate", "--model", checkpoint, "--video", noise, *QUESTION)
    assert "Cannot read the media file" in line
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    line = fail("generate", "--model", bare, "--video", clip, *QUESTION)
    assert "Cannot load the checkpoint" in line


def test_a_budget_chooses_the_ratios(
    invoke: Callable[..., Result],
    invoke_json: Callable[..., Any],
    fail: Callable[..., str],
    checkpoint: Path,
    clip: Path,
) -> None:
    arguments = ("generate", "--model", checkpoint, "--video", clip, *QUESTION, "-m", "divprune")
    for target in (0.7, 0.5):
        outcome = invoke_json(*arguments, "--target-flops", target)["outcomes"][1]
        assert target - 0.01 < outcome["flops_ratio"] <= target
    printed = invoke(*arguments, "--target-flops", 0.5)
    assert "for target_flops=0.5: the prefill of a prompt of" in " ".join(printed.stderr.split())
    assert "cannot be reached" in fail(*arguments, "--target-flops", 0.01)
