"""FastAVConfig(calibration=FILE): whose settings count, and whose model it is."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.calibration_file import (
    CALIBRATION_NAME,
    Calibration,
    read_calibration,
    read_tensors,
    write_calibration,
)
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.evaluation.answers_file import checkpoint_digest
from fastav_plugin.lab.testbed.model import build_config, build_model
from tests.calibration.prompts import NoisySource
from tests.support.cache_names import passing


@pytest.fixture(scope="module")
def inputs(processor: Any) -> dict[str, Any]:
    return NoisySource(processor).inputs(2)


@pytest.fixture
def other(calibration: Calibration, tmp_path: Path) -> Path:
    """A calibration that chose something else for the same model."""
    facts = copy.deepcopy(dict(calibration.facts))
    facts["settings"] |= {"method": "fastav+divprune", "visual_keep_ratio": 0.3, "global_layer": 6}
    path = tmp_path / "other.safetensors"
    write_calibration(path, facts, read_tensors(calibration.path))
    return path


def layers_run(model: nn.Module) -> list[int]:
    """Counts the decoder layers that run from now on."""
    count: list[int] = []
    text: Any = model
    for layer in text.model.language_model.layers:
        layer.register_forward_pre_hook(lambda *_: count.append(1))
    return count


def test_it_fills_what_is_not_given(calibration: Calibration) -> None:
    settings = calibration.settings
    config = FastAVConfig(calibration=calibration.path)
    assert {name: getattr(config, name) for name in settings} == settings
    assert config == FastAVConfig(calibration=calibration.path, **settings)
    assert FastAVConfig.from_dict(config.to_dict()) == config


def test_what_is_given_wins(calibration: Calibration, other: Path) -> None:
    config = FastAVConfig(calibration=calibration.path, fine_drop_ratio=0.2, global_layer=7)
    assert (config.fine_drop_ratio, config.global_layer) == (0.2, 7)
    assert config.global_rule == calibration.settings["global_rule"]
    assert FastAVConfig(calibration=other).method == "fastav+divprune"
    assert FastAVConfig(calibration=other, method="fastav").method == "fastav"
    # The default of a field, given, is given.
    assert FastAVConfig(calibration=other, visual_keep_ratio=0.5).visual_keep_ratio == 0.5


def test_a_changed_copy(calibration: Calibration, other: Path) -> None:
    config = FastAVConfig(calibration=calibration.path, positions="renumbered")
    assert config.replace(fine_drop_ratio=0.4).global_rule == config.global_rule
    moved = config.replace(calibration=other, fine_drop_ratio=0.3)
    assert (moved.method, moved.global_layer) == ("fastav+divprune", 6)
    assert (moved.fine_drop_ratio, moved.positions) == (0.3, "renumbered")
    alone = config.replace(calibration=None)
    assert (alone.calibration, alone.global_layer) == (None, config.global_layer)
    family = FastAVConfig(global_rule="below 750").replace(calibration=other)
    assert family.global_rule == calibration.settings["global_rule"]


def test_it_says_where_the_numbers_come_from(calibration: Calibration, model: Any) -> None:
    config = FastAVConfig.for_model(model, calibration=calibration.path)
    told = config.describe()
    assert ", ".join(calibration.settings) in told
    assert "from the calibration 'whole.safetensors' of a qwen2_5_omni_text with 8 layers" in told
    assert f"mean KL of {calibration.facts['chosen']['kl']:.4g}" in told
    chosen = calibration.facts["chosen"]
    assert f"(95 % interval {chosen['kl_low']:.4g} to {chosen['kl_high']:.4g})" in told
    assert "on the 2 samples it was chosen on: other prompts may do worse" in told
    assert "did not measure" not in told
    changed = config.replace(global_layer=7).describe()
    assert "was not measured with global_layer as given here" in changed


def test_a_folder_that_is_moved(calibration: Calibration, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    config = FastAVConfig(calibration=calibration.path)
    config.save_pretrained(before)
    config.save_pretrained(before)
    assert sorted(path.name for path in before.iterdir()) == [CALIBRATION_NAME, CONFIG_NAME]
    assert json.loads((before / CONFIG_NAME).read_text())["calibration"] == CALIBRATION_NAME
    before.rename(after)
    for place in (after, after / CONFIG_NAME):
        found = FastAVConfig.from_pretrained(place)
        assert found == config.replace(calibration=str(after / CALIBRATION_NAME))
    found.save_pretrained(after)
    assert FastAVConfig.from_pretrained(after) == found
    (after / CALIBRATION_NAME).unlink()
    with pytest.raises(ConfigError, match=r"Cannot read the calibration file '.*No such file"):
        FastAVConfig.from_pretrained(after)


def test_a_model_is_the_same_with_a_calibration_beside_it(
    calibration: Calibration, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = checkpoint_digest(tmp_path)
    FastAVConfig(calibration=calibration.path).save_pretrained(tmp_path)
    assert checkpoint_digest(tmp_path) == before


def test_it_prunes_in_every_way_of_pruning(
    calibration: Calibration, model: Any, inputs: dict[str, Any]
) -> None:
    settings = calibration.settings
    wanted = FastAVCache(FastAVConfig(**settings))
    model.generate(**inputs, **passing(wanted), max_new_tokens=2)
    counts = wanted.report().tokens_per_layer
    assert counts[settings["global_layer"]] < counts[0]
    for config in (
        FastAVConfig(calibration=calibration.path),
        FastAVConfig.for_model(model, calibration=calibration.path),
        FastAVConfig.for_model(model.config, calibration=calibration.path),
    ):
        cache = FastAVCache(config)
        model.generate(**inputs, **passing(cache), max_new_tokens=2)
        assert cache.report().tokens_per_layer == counts
        detach(model)
    reports: list[Any] = []
    attach(model, config, on_report=reports.append)
    try:
        model.generate(**inputs, max_new_tokens=2)
    finally:
        detach(model)
    assert reports[0].tokens_per_layer == counts


def smaller() -> Any:
    config: Any = build_config()
    config.text_config.num_hidden_layers = 6
    torch.manual_seed(0)
    model: Any = type(build_model())(config)
    return model.eval()


def fine_tuned() -> Any:
    model = build_model()
    with torch.no_grad():
        model.model.language_model.layers[2].mlp.up_proj.weight += 1e-4
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (smaller, "its num_hidden_layers is 8, this model's 6"),
        (lambda: build_model(1), "weights of layer 0: "),
        (fine_tuned, "weights of layer 2: mlp.up_proj.weight differ; a fine-tune is another model"),
    ],
)
def test_another_model_is_refused_before_any_token(
    calibration: Calibration, inputs: dict[str, Any], make: Any, reason: str
) -> None:
    model = make()
    count = layers_run(model)
    config = FastAVConfig(calibration=calibration.path)
    uses: tuple[Callable[[], Any], ...] = (
        lambda: model.generate(**inputs, **passing(FastAVCache(config)), max_new_tokens=1),
        lambda: attach(model, config),
    )
    for use in uses:
        with pytest.raises(ConfigError, match="made for another model: ") as error:
            use()
        assert reason in str(error.value)
        detach(model)
    assert count == []
    model.generate(**inputs, max_new_tokens=1)
    assert len(count) == model.config.text_config.num_hidden_layers


def test_another_precision_is_the_same_model(
    calibration: Calibration, model: Any, inputs: dict[str, Any]
) -> None:
    config = FastAVConfig(calibration=calibration.path)
    for dtype in (torch.bfloat16, torch.float16):
        attach(copy.deepcopy(model).to(dtype), config)
    tuned = fine_tuned()
    with torch.no_grad():
        tuned.model.language_model.layers[2].mlp.up_proj.weight += 0.1
    with pytest.raises(ConfigError, match="another model"):
        attach(tuned.to(torch.bfloat16), config)
    floats = tree_map(
        lambda x: x.bfloat16() if isinstance(x, torch.Tensor) and x.is_floating_point() else x,
        inputs,
    )
    cache = FastAVCache(config)
    halved = copy.deepcopy(model).bfloat16()
    halved.generate(**floats, **passing(cache), max_new_tokens=1)
    assert cache.report().reason is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_makes_another_model(calibration: Calibration) -> None:
    peft = pytest.importorskip("peft", reason="needs PEFT")
    model = peft.get_peft_model(build_model(), peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ConfigError, match="only one of the two models has a LoRA adapter"):
        attach(model, FastAVConfig(calibration=calibration.path))


def test_weights_that_change_in_place_are_read_again(calibration: Calibration) -> None:
    model = build_model()
    config = FastAVConfig(calibration=calibration.path)
    for _ in range(2):
        detach(attach(model, config))
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    with pytest.raises(ConfigError, match=r"made for another model: the weights of layer 0"):
        attach(model, config)


def test_weights_that_are_not_there_cannot_be_compared(calibration: Calibration) -> None:
    with torch.device("meta"):
        empty: Any = type(build_model())(build_config())
    attach(empty.eval(), FastAVConfig(calibration=calibration.path))
    assert any(module._forward_pre_hooks for module in empty.modules()), "it is bound"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, None),
        ({"model": None}, "damaged: model missing"),
        ({"candidates": {}, "alpha": "half"}, "damaged: alpha, candidates missing"),
        ({"settings": {}}, "holds no setting"),
    ],
)
def test_files_that_are_not_whole(
    calibration: Calibration, tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    path = tmp_path / "changed.safetensors"
    write_calibration(path, {**calibration.facts, **change}, {})
    if message is None:  # what is written has this version's format
        assert read_calibration(path).facts["format"] == 2
        return
    with pytest.raises(ConfigError, match=message):
        FastAVConfig(calibration=path)


def test_files_that_are_none(calibration: Calibration, tmp_path: Path) -> None:
    whole = Path(calibration.path).read_bytes()
    for content in (b"", b"{}", whole[:1000], b"\xff" * 100):
        path = tmp_path / f"{len(content)}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="Cannot read the calibration file"):
            FastAVConfig(calibration=path)
    build_model().save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="is not a calibration file"):
        FastAVConfig(calibration=tmp_path / "model" / "model.safetensors")
    with pytest.raises(ConfigError, match="Cannot read the calibration file"):
        FastAVConfig(calibration=tmp_path)


def test_a_file_that_changes_is_read_again(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "changing.safetensors"
    shutil.copyfile(calibration.path, path)
    before = FastAVConfig(calibration=path)
    facts = copy.deepcopy(dict(calibration.facts))
    facts["settings"]["global_layer"] = 7
    write_calibration(path, facts, read_tensors(calibration.path))
    assert FastAVConfig(calibration=path).global_layer == 7 != before.global_layer
