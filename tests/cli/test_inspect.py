from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    MambaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3VLConfig,
    T5Config,
    ViTConfig,
)
from typer.testing import Result

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.model_overrides.registry import GENERIC
from fastav_plugin.planning.dry_run import PromptSize, plan_prefill
from tests.support.cache_names import passing
from tests.support.checkpoints import save_llava

RULE = ("--rule", "video=all, audio=first 10 tokens", "--drop-ratio", 0.2)


def _save(config: PreTrainedConfig, architecture: str, folder: Path) -> Path:
    config.architectures = [architecture]
    config.save_pretrained(folder)
    return folder


def _qwen2(folder: Path, layers: int = 28) -> Path:
    config = Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=layers,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    return _save(config, "Qwen2ForCausalLM", folder)


def test_the_papers_schedule_from_config_json_alone(
    invoke_json: Callable[..., Any], tmp_path: Path
) -> None:
    found = invoke_json("inspect", _qwen2(tmp_path), "--method", "fastav", *RULE)
    assert found["supported"]
    dense, fastav = found["plans"]
    assert dense["tokens_per_layer"] == [2222] * 28
    assert fastav["tokens_per_layer"] == [2222] * 14 + [
        *(736, 598, 488, 400, 330, 274, 229, 193, 164, 141, 122, 107, 95, 86)
    ]
    assert fastav["flops_ratio"] == pytest.approx(0.56, abs=0.005)
    total = sum(dense["macs_per_layer"])
    spent = sum(fastav["macs_per_layer"]) + fastav["overhead_macs"]
    assert spent / total == pytest.approx(fastav["flops_ratio"])
    # Fine cuts read the scores of layers 14 to 26, of one query.
    assert fastav["overhead_macs"] == 3584 * sum(fastav["tokens_per_layer"][14:27])
    assert dense["overhead_macs"] == 0


def test_the_testbed_model(invoke: Callable[..., Result], checkpoint: Path) -> None:
    result = invoke("inspect", checkpoint, "--frames", 4, "--rule", "video=first 2 frames")
    assert result.exit_code == 0
    assert "QwenOmniOverride" in result.stdout
    assert "video 6" in result.stdout
    assert "fastav+divprune" in result.stdout


def test_a_method_whose_counts_vary(
    invoke: Callable[..., Result], invoke_json: Callable[..., Any], checkpoint: Path
) -> None:
    result = invoke("inspect", checkpoint, "--method", "adaptive", "--method", "fastv")
    assert result.stderr.count("these are the most") == 1
    found = invoke_json("inspect", checkpoint, "--method", "adaptive", "--method", "fastv")
    assert [plan["at_most"] for plan in found["plans"]] == [False, True, False]


def test_a_small_prompt_is_not_cut(invoke: Callable[..., Result], checkpoint: Path) -> None:
    result = invoke("inspect", checkpoint, "--video", 9, "--audio", 0, "-m", "fastav")
    assert result.exit_code == 0
    assert "fastav: nothing is cut, because" in result.stderr


def test_a_refused_model(invoke: Callable[..., Result], tmp_path: Path) -> None:
    folder = _save(T5Config(), "T5ForConditionalGeneration", tmp_path)
    result = invoke("inspect", folder, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found["supported"], "encoder-decoder" in found["reason"]) == (False, True)
    assert len(result.stderr.splitlines()) == 1


def test_one_line_says_why_all_methods_are_refused(
    invoke: Callable[..., Result], fail: Callable[..., str], checkpoint: Path
) -> None:
    """Each reason once, after the facts about the model, and no table of nothing."""
    result = invoke("inspect", checkpoint, "--target-flops", 0.001)
    assert result.exit_code == 2
    assert "layer sizes" in result.stdout
    assert "Tokens that each layer sees" not in result.stdout
    errors = [line for line in result.stderr.splitlines() if "cannot be reached" in line]
    (line,) = errors
    assert line.count("by method 'fastav' ") == line.count("by method 'divprune' ") == 1


@pytest.mark.parametrize("target", [40, 0, -0.5])
def test_a_target_out_of_range_is_refused_before_any_model(
    fail: Callable[..., str], target: float
) -> None:
    """Not even whether the model is there has been looked up."""
    line = fail("inspect", "org/missing", "--target-flops", target)
    assert f"`--target-flops` must lie in (0, 1], got {float(target)}." in line


def test_the_line_about_settings_names_the_target(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    save_llava(tmp_path)
    options = ("--preset", "balanced", "--target-flops", 0.3)
    result = invoke("inspect", tmp_path, *options)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "Settings: the preset 'balanced' for image models, with --target-flops given" in said
    assert "as chosen for target_flops. Chosen: " in said
    assert "as given here" not in said


def test_the_prompt_is_one_that_the_model_takes(
    invoke: Callable[..., Result], invoke_json: Callable[..., Any], tmp_path: Path
) -> None:
    save_llava(tmp_path)
    found = invoke_json("inspect", tmp_path)
    assert found["placeholders"].keys() == {"image"}
    assert found["prompt"] == {"text": 50, "image": 576, "video": 0, "audio": 0, "frames": 0}
    said = " ".join(invoke("inspect", tmp_path).stdout.split())
    assert "prompt 50 text, 576 image tokens (choose with --text, --image)" in said


def test_tokens_that_a_model_cannot_have(fail: Callable[..., str], tmp_path: Path) -> None:
    save_llava(tmp_path)
    for option, kind in (("--video", "video"), ("--audio", "audio"), ("--frames", "video")):
        line = fail("inspect", tmp_path, option, 10)
        assert f"`{option}` cannot be 10: the prompts of LlavaForConditionalGeneration" in line
        assert f"hold no {kind} tokens, only image tokens." in line


def test_layers_that_cannot_be_cut(fail: Callable[..., str], tmp_path: Path) -> None:
    folder = _save(MambaConfig(num_hidden_layers=2), "MambaForCausalLM", tmp_path)
    assert "MambaForCausalLM cannot be pruned" in fail("inspect", folder)


def test_a_method_refused_by_one_model(invoke: Callable[..., Result], tmp_path: Path) -> None:
    config = Qwen3VLConfig()
    folder = _save(config, "Qwen3VLForConditionalGeneration", tmp_path)
    result = invoke("inspect", folder, "--set", "global_layer=1", "-m", "fastav", "-m", "divprune")
    assert result.exit_code == 0
    assert "deepstack" in result.stdout
    assert "fastav: refused." in result.stderr
    alone = invoke("inspect", folder, "--set", "global_layer=1", "-m", "fastav")
    assert alone.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a valid JSON"), ("{}", "model_type"), ('{"model_type": "phi9"}', "phi9")],
)
def test_an_unreadable_configuration(
    fail: Callable[..., str], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert message in fail("inspect", tmp_path)


def test_an_architecture_nobody_has(fail: Callable[..., str], tmp_path: Path) -> None:
    # No kind of language model has this model_type, so nothing stands in for the unknown name.
    folder = _save(ViTConfig(), "NoSuchModel", tmp_path)
    assert "'NoSuchModel'" in fail("inspect", folder)


def test_the_class_of_an_older_release(invoke: Callable[..., Result], tmp_path: Path) -> None:
    folder = _save(Qwen2Config(), "Qwen2OldName", tmp_path)
    result = invoke("inspect", folder)
    assert result.exit_code == 0
    assert "Qwen2ForCausalLM" in result.stdout


def test_wrong_settings(fail: Callable[..., str], checkpoint: Path) -> None:
    assert "Did you mean 'hooks'" in fail("inspect", checkpoint, "--set", "hoks=1")
    assert "`--drop-ratio` must lie in [0, 1)" in fail("inspect", checkpoint, "--drop-ratio", 1.2)
    assert "`--keep-ratio` must lie in (0, 1]" in fail("inspect", checkpoint, "--keep-ratio", 1.5)
    assert "`--audio-keep-ratio` must" in fail("inspect", checkpoint, "--audio-keep-ratio", 0)
    assert "`--rule` for video must be 'all'" in fail("inspect", checkpoint, "--rule", "video=none")
    assert "modality of `--rule` 'vido'" in fail("inspect", checkpoint, "--rule", "vido=all")
    assert "fields besides the method" in fail("inspect", checkpoint, "--set", "method=fastv")
    assert "Unknown method 'fastavv'" in fail("inspect", checkpoint, "-m", "fastavv")
    assert "equal frames" in fail("inspect", checkpoint, "--frames", 7)
    assert "at least one token" in fail(
        "inspect", checkpoint, "--text", 0, "--video", 0, "--audio", 0
    )


def test_a_budget(invoke: Any, invoke_json: Callable[..., Any], checkpoint: Path) -> None:
    arguments = ("inspect", checkpoint, "-m", "fastav+divprune", "-m", "fastav")
    _, composed, fastav = invoke_json(*arguments, "--target-flops", 0.4)["plans"]
    assert 0.39 < composed["flops_ratio"] <= 0.4
    assert "for target_flops=0.4" in composed["settings"]
    assert 0.39 < fastav["flops_ratio"] <= 0.4
    refused = invoke_json(*arguments, "--target-flops", 0.1)["plans"][-1]
    assert "cannot be reached" in refused["refusal"]
    printed = " ".join(invoke(*arguments, "--target-flops", 0.4).stderr.split())
    assert "Chosen: visual_keep_ratio=" in printed


@pytest.mark.parametrize("method", ["fastav", "divprune", "fastav+divprune", "none"])
def test_the_dry_run_counts_as_a_real_run(method: str) -> None:
    config = Qwen2Config(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        eos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    torch.nn.Module.eval(model)
    settings = FastAVConfig.for_model(model, method=method, global_rule="below 150")
    tokens = PromptSize(text=20, image=30, video=80, audio=90).token_map()
    cache = FastAVCache(settings, tokens)
    input_ids = torch.randint(1, 64, (1, tokens.length), generator=torch.manual_seed(0))
    with torch.no_grad():
        model(input_ids, **passing(cache))
    cost, report = GENERIC.cost(config), cache.report()
    plan = plan_prefill(settings, tokens, 6, cost)
    assert plan.counts == [report.tokens_per_layer]
    assert plan.flops_ratio(cost, [tokens.length]) == report.flops_ratio
    assert (plan.reason is None) == (report.overhead_ratio > 0) == (method != "none")


def test_cautions(
    invoke: Callable[..., Result], invoke_json: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("inspect", _qwen2(tmp_path), "-m", "vtw", "-m", "late_removal")
    _, early, late = invoke_json(*arguments)["plans"]
    assert len(early["cautions"]) == 1 and late["cautions"] == []
    assert early["cautions"][0] in early["settings"]
    assert "vtw: caution, 'vtw' drops all media" in " ".join(invoke(*arguments).stderr.split())
