"""2+ as it is published: an adapter of PEFT on a base, merged by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultimodalLM

from fastav_plugin import ConfigError, register_models
from fastav_plugin.model_overrides import video_salmonn2
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import published_name, write_folder

# PEFT reads a property that transformers is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

NAME = "video_salmonn2_plus"
HEAD: Any = video_salmonn2.VideoSalmonn2PlusForConditionalGeneration


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Any]:
    """Folder of an adapter that PEFT wrote, beside its base, and PEFT's own model of both.

    The adapter's names are those of the authors' flat model.
    """
    peft = pytest.importorskip("peft")
    base = write_folder(tmp_path / "audioAlign", NAME, tiny.build(NAME))
    settings = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r"model\.language_model\..*\.(q_proj|k_proj|v_proj)",
        modules_to_save=["visual.merger", "audio.qformer", "audio.audio_proj"],
    )
    model = peft.get_peft_model(tiny.build(NAME), settings)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path / "video-SALMONN-2_plus_7B"
    model.save_pretrained(folder)
    stated = json.loads((folder / "adapter_config.json").read_text())
    stated["base_model_name_or_path"] = "/elsewhere/audioAlign"
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    start = "base_model.model."
    rename(folder, lambda key: start + published_name(NAME, key.removeprefix(start)))
    assert base.is_dir()
    return folder, model.eval()


def rename(folder: Path, change: Any) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({change(key): tensor for key, tensor in load_file(file).items()}, file)


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


def test_merged_equals_peft(trained: tuple[Path, Any], clips: dict[str, Path]) -> None:
    folder, expected = trained
    model = HEAD.from_pretrained(folder).eval()
    inputs = tiny.processor(NAME)(video=clips["short"], text="What?")
    torch.testing.assert_close(logits(model, inputs), logits(expected, inputs), rtol=0, atol=1e-4)
    plain = logits(tiny.build(NAME), inputs)
    assert (logits(model, inputs) - plain).abs().max() > 0.1


def test_other_towers_stay_as_they_were(trained: tuple[Path, Any]) -> None:
    """Whisper's layers have projections of the same names."""
    folder, _ = trained
    model, base = HEAD.from_pretrained(folder).state_dict(), tiny.build(NAME).state_dict()
    changed = {key for key, tensor in model.items() if not torch.equal(tensor, base[key])}
    assert not [key for key in changed if ".audio.layers." in key or ".visual.blocks." in key]
    parts = (
        "q_proj.weight",
        "k_proj.weight",
        "v_proj.weight",
        "merger.",
        "qformer.",
        "audio_proj.",
    )
    assert all(any(part in key for part in parts) for key in changed)
    assert len([key for key in changed if "language_model" in key]) == 6 * 3


def test_names_as_peft_has_them_in_memory(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    expected = HEAD.from_pretrained(folder).state_dict()

    def longer(key: str) -> str:
        key = key.replace("lora_A.weight", "lora_A.default.weight")
        return key.replace("audio.audio_proj.", "audio.audio_proj.modules_to_save.default.")

    rename(folder, longer)
    found = HEAD.from_pretrained(folder).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_base_is_named_or_found(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = trained
    (tmp_path / "audioAlign").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="adapter on '/elsewhere/audioAlign', which is not"):
        HEAD.from_pretrained(folder)
    model = HEAD.from_pretrained(folder, base_model=tmp_path / "moved")
    assert model.config.model_type == NAME


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"peft_type": "LOHA"}, "adapter of type 'LOHA'"),
        ({"use_dora": True}, "has `use_dora` True"),
        ({"rank_pattern": {"q_proj": 2}}, "has `rank_pattern`"),
    ],
)
def test_other_kinds_are_refused(
    trained: tuple[Path, Any], setting: dict[str, Any], message: str
) -> None:
    folder, _ = trained
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(ConfigError, match=message):
        HEAD.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda key: key.replace("layers.0.", "layers.9."), "has no place in its base"),
        (lambda key: key.replace("audio_proj.bias", "audio_proj.scale"), "has no place"),
        (lambda key: key.replace("layers.0.self_attn.q_proj.lora_A", "x.lora_A"), "half an update"),
    ],
)
def test_every_tensor_of_an_adapter_is_accounted_for(
    trained: tuple[Path, Any], change: Any, message: str
) -> None:
    folder, _ = trained
    rename(folder, change)
    with pytest.raises(ConfigError, match=message):
        HEAD.from_pretrained(folder)


def test_an_adapter_of_another_size(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    key = next(key for key in tensors if key.endswith("audio_proj.bias"))
    save_file(tensors | {key: torch.ones(3)}, file)
    with pytest.raises(ConfigError, match="Is this the base it was trained on"):
        HEAD.from_pretrained(folder)


def test_auto_classes_merge_it_too(trained: tuple[Path, Any]) -> None:
    """They name its base as the folder, and the adapter in a keyword of their own."""
    adapter, _ = trained
    register_models()
    file = adapter / "adapter_config.json"
    stated = json.loads(file.read_text())
    stated["base_model_name_or_path"] = str(adapter.parent / "audioAlign")
    file.write_text(json.dumps(stated))
    auto: Any = AutoModelForMultimodalLM
    found, expected = auto.from_pretrained(adapter), HEAD.from_pretrained(adapter)
    assert type(found) is HEAD
    weights, plain = found.state_dict(), tiny.build(NAME).state_dict()
    assert all(torch.equal(weights[key], t) for key, t in expected.state_dict().items())
    assert any(not torch.equal(weights[key], tensor) for key, tensor in plain.items())


def test_a_rank_that_is_not_the_tensors(trained: tuple[Path, Any]) -> None:
    """The sum would be scaled by another rank than was trained."""
    folder, _ = trained
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 2}))
    with pytest.raises(ConfigError, match="has rank 4 and 4, its adapter_config.json states `r` 2"):
        HEAD.from_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"r": 0, "lora_alpha": 8}'])
def test_broken_settings_of_an_adapter(trained: tuple[Path, Any], text: str) -> None:
    folder, _ = trained
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ConfigError, match="adapter_config.json' (cannot be read|must state)"):
        HEAD.from_pretrained(folder)


def test_an_adapter_without_tensors(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="holds no tensors"):
        HEAD.from_pretrained(folder)
