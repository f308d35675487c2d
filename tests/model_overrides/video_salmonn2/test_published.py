"""The authors' folders: every tensor in its place, or one error that says which is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMultimodalLM, AutoProcessor
from typer.testing import CliRunner

from fastav_plugin import ConfigError, register_models
from fastav_plugin.cli import app
from fastav_plugin.model_overrides import video_salmonn2
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.own_models.registry import read_own_config
from fastav_plugin.model_overrides.video_salmonn2.checkpoint.published import is_official_folder
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.key_tables import TABLES
from tests.model_overrides.video_salmonn2.published import (
    published_name,
    published_tensors,
    write_folder,
)

NAMES = list(tiny.CONFIGS)
each_name = pytest.mark.parametrize("name", NAMES)
auto_model: Any = AutoModelForMultimodalLM
auto_processor: Any = AutoProcessor


def head(name: str) -> Any:
    return getattr(video_salmonn2, tiny.MODELS[name])


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


@pytest.fixture
def inputs(name: str, clips: dict[str, Path]) -> Any:
    return tiny.processor(name)(video=clips["short"], text="What?")


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    """The authors' folder of the tiny model, with a tokenizer."""
    found = write_folder(tmp_path / "published", name, tiny.build(name))
    tiny.tokenizer().save_pretrained(found)
    return found


@each_name
def test_true_size_has_the_published_names_and_shapes(name: str) -> None:
    kind = "VideoSalmonn2Config" if name == "video_salmonn2" else "VideoSalmonn2PlusConfig"
    with torch.device("meta"):
        model = head(name)(getattr(video_salmonn2, kind)())
    found = {
        published_name(name, key): tuple(tensor.shape) for key, tensor in model.state_dict().items()
    }
    assert found == TABLES[name]()
    assert {head(name).our_name(key) for key in found} == set(model.state_dict())


def test_true_size_counts() -> None:
    """Parameters of the two Q-Formers, and what a frame and a second cost."""
    config: Any = video_salmonn2.VideoSalmonn2Config()
    assert config.tokens_per_frame == 182
    table = TABLES["video_salmonn2_plus"]()
    sizes = [torch.Size(shape).numel() for key, shape in table.items() if ".qformer." in key]
    assert sum(sizes) == 280_092_672


@each_name
def test_a_published_folder_is_read_to_the_bit(name: str, folder: Path, inputs: Any) -> None:
    source, model = tiny.build(name), head(name).from_pretrained(folder).eval()
    expected = source.state_dict()
    assert model.config.model_type == tiny.CONFIGS[name]().model_type
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    assert torch.equal(logits(model, inputs), logits(source, inputs))


@each_name
def test_what_is_saved_is_read_again(name: str, folder: Path, inputs: Any, tmp_path: Path) -> None:
    model = head(name).from_pretrained(folder).eval()
    model.save_pretrained(tmp_path / "own")
    tiny.processor(name).save_pretrained(tmp_path / "own")
    register_models()
    again = auto_model.from_pretrained(tmp_path / "own").eval()
    assert type(again) is type(model)
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    processor = auto_processor.from_pretrained(tmp_path / "own")
    assert type(processor).__name__ == tiny.PROCESSORS[name]
    assert processor.to_dict() == tiny.processor(name).to_dict()


@each_name
def test_a_processor_of_a_published_folder(
    name: str, folder: Path, inputs: Any, clips: dict[str, Path]
) -> None:
    processor = getattr(video_salmonn2, tiny.PROCESSORS[name]).from_pretrained(folder)
    made = processor(video=clips["short"], text="What?")
    assert set(made) == set(inputs)
    for key, tensor in inputs.items():
        assert torch.equal(made[key], tensor)
    fewer = getattr(video_salmonn2, tiny.PROCESSORS[name]).from_pretrained(folder, max_frames=2)
    assert fewer.max_frames == 2


@each_name
def test_convert_writes_a_plain_folder(
    name: str, folder: Path, inputs: Any, tmp_path: Path
) -> None:
    target = tmp_path / "plain"
    result = CliRunner().invoke(app, ["convert", str(folder), str(target), "--json"])
    assert result.exit_code == 0, result.output
    register_models()
    model = auto_model.from_pretrained(target).eval()
    assert torch.equal(logits(model, inputs), logits(tiny.build(name), inputs))
    assert type(auto_processor.from_pretrained(target)).__name__ == tiny.PROCESSORS[name]
    assert not list(target.glob("*.bin"))
    again = CliRunner().invoke(app, ["convert", str(target), str(tmp_path / "twice")])
    assert again.exit_code != 0


def test_auto_classes_read_the_published_7b(tmp_path: Path) -> None:
    name = "video_salmonn2"
    folder = write_folder(tmp_path / "published", name, tiny.build(name))
    tiny.tokenizer().save_pretrained(folder)
    register_models()
    assert type(auto_model.from_pretrained(folder)) is head(name)
    processor = auto_processor.from_pretrained(folder)
    assert type(processor).__name__ == tiny.PROCESSORS[name]
    assert processor.tokens_per_frame == 12


@each_name
def test_whose_folder_it_is(name: str, folder: Path, tmp_path: Path) -> None:
    """Whatever config.json calls itself; and no other model's folder is taken for one."""
    kind = type(tiny.CONFIGS[name]())
    assert type(read_own_config(folder)) is kind
    assert type(read_config(folder)) is kind
    qwen = tmp_path / "qwen"
    qwen.mkdir()
    assert read_own_config(qwen) is None
    assert not is_official_folder(qwen)
    (qwen / "config.json").write_text("[]")
    assert read_own_config(qwen) is None
    (qwen / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    assert read_own_config(qwen) is None
    (qwen / "config.json").write_text("{")
    assert read_own_config(qwen) is None


@each_name
def test_weights_keep_their_type(name: str, tmp_path: Path) -> None:
    half = tiny.build(name).to(torch.bfloat16)
    model = head(name).from_pretrained(write_folder(tmp_path / "half", name, half))
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


@each_name
def test_a_missing_shard_is_named(name: str, folder: Path) -> None:
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lacks 1 of 3 shards: model-00002-of-00003"):
        head(name).from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drop", r"1 missing tensors: .*norm\.weight"),
        ("add", r"1 unexpected tensors: .*extra\.weight"),
        ("reshape", r"1 tensors of a wrong shape: .*norm\.weight \(3,\) instead of \(48,\)"),
    ],
)
@each_name
def test_every_tensor_is_accounted_for(
    name: str, change: str, message: str, tmp_path: Path
) -> None:
    model = tiny.build(name)
    folder = write_folder(tmp_path / "one", name, model, shards=1)
    (folder / "model.safetensors.index.json").unlink()
    tensors = {key: t.contiguous() for key, t in published_tensors(name, model).items()}
    if change == "drop":
        del tensors["model.norm.weight"]
    elif change == "add":
        tensors["speech_encoder.extra.weight"] = torch.ones(3)
    else:
        tensors["model.norm.weight"] = torch.ones(3)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=message):
        head(name).from_pretrained(folder)


def test_the_published_configurations() -> None:
    """Flat ones, as they are: decoder beside what LLaVA and Qwen2.5-VL say of their towers."""
    decoder = {
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 152064,
    }
    llava = {
        "model_type": "video_salmonn_2",
        "rope_scaling": None,
        "image_aspect_ratio": "anyres_max_9",
        "mm_hidden_size": 1152,
        "mm_projector_type": "mlp2x_gelu",
        "mm_spatial_pool_mode": "bilinear",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
    }
    first: Any = video_salmonn2.VideoSalmonn2Config.from_dict(decoder | llava)
    expected: Any = video_salmonn2.VideoSalmonn2Config()
    for name in ("vision_config", "speech_config", "qformer_config", "rope_parameters"):
        assert str(getattr(first, name)) == str(getattr(expected, name))
    assert (first.dtype, first.sliding_window) == (torch.bfloat16, None)
    assert first.rope_parameters["rope_theta"] == 1_000_000.0
    qwen = {
        "model_type": "qwen2_5_vl",
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "hidden_size": 1280,
            "tokens_per_second": 2,
            "out_hidden_size": 3584,
        },
        "audio_config": {
            "model_type": "whisper",
            "qformer_config": {"model_type": "bert", "hidden_size": 3072, "num_hidden_layers": 2},
        },
    }
    second: Any = video_salmonn2.VideoSalmonn2PlusConfig.from_dict(decoder | qwen)
    expected = video_salmonn2.VideoSalmonn2PlusConfig()
    assert second.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert second.text_config.rope_parameters["rope_theta"] == 1_000_000.0
    assert second.text_config.hidden_size == expected.text_config.hidden_size
    assert second.audio_config.qformer_config.intermediate_size == 12288
    assert str(second.vision_config) == str(expected.vision_config)
    assert second.model_type == "video_salmonn2_plus"


@pytest.mark.parametrize(
    "values", [{"mm_projector_type": "linear"}, {"mm_newline_position": "one_token"}]
)
def test_other_visual_tokens_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(values))}` must be"):
        video_salmonn2.VideoSalmonn2Config(**values)


def test_another_tower_is_refused() -> None:
    with pytest.raises(ConfigError, match="names the vision tower 'openai/clip'"):
        video_salmonn2.VideoSalmonn2Config(mm_vision_tower="openai/clip")
    known: Any = video_salmonn2.VideoSalmonn2Config(
        mm_vision_tower="google/siglip-so400m-patch14-384"
    )
    assert known.vision_config.num_hidden_layers == 26


@pytest.mark.parametrize("name", ["video_salmonn2_plus"])
def test_newer_names_are_read_as_well(name: str, tmp_path: Path) -> None:
    """A folder of the later, nested layout."""
    model = tiny.build(name)
    folder = write_folder(tmp_path / "nested", name, model, shards=1)
    (folder / "model.safetensors.index.json").unlink()
    save_file(
        {key: t.contiguous() for key, t in model.state_dict().items()},
        folder / "model.safetensors",
    )
    found = head(name).from_pretrained(folder).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in model.state_dict().items())


def test_a_tied_head_needs_no_tensor(tmp_path: Path) -> None:
    name = "video_salmonn2_plus"
    text = tiny.plus_config().text_config.to_dict()
    model = tiny.build(name, text_config=text, tie_word_embeddings=True)
    folder = write_folder(tmp_path / "tied", name, model)
    found = head(name).from_pretrained(folder)
    assert found.lm_head.weight is found.model.language_model.embed_tokens.weight


def test_a_name_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist. Give the folder"):
        head("video_salmonn2").from_pretrained(str(tmp_path / "absent"), local_files_only=True)
    with pytest.raises(ConfigError, match="holds no weights"):
        empty = tmp_path / "empty"
        shutil.copytree(
            write_folder(tmp_path / "full", "video_salmonn2", tiny.build("video_salmonn2")), empty
        )
        for file in empty.glob("model*"):
            file.unlink()
        head("video_salmonn2").from_pretrained(empty)


@each_name
def test_generate_on_the_command_line(name: str, folder: Path, clips: dict[str, Path]) -> None:
    """An authors' folder and a file: the whole way without a line of Python."""
    command = ["generate", "--model", str(folder), "--video", str(clips["ten"]), "--json"]
    command += ["--question", "What?", "--frames", "12", "--max-new-tokens", "2"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    dense, pruned = json.loads(result.stdout)["outcomes"]
    assert dense["tokens_per_layer"][5] > pruned["tokens_per_layer"][5]
    assert pruned["modality_per_layer"]["video"][3] == 4 * (12 if name == "video_salmonn2" else 16)
