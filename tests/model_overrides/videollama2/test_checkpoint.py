"""The authors' folder through transformers' Auto classes, whole and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from typer.testing import CliRunner

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.cli import app
from fastav_plugin.model_overrides.videollama2 import (
    VideoLlama2Config,
    VideoLlama2ForConditionalGeneration,
    VideoLlama2Processor,
)
from tests.model_overrides.videollama2.checkpoint import FLAT, SPECIAL, tiny_model, write_official

VISION = "model.vision_tower.vision_tower.vision_model."
SHARD = "model-00002-of-00002.safetensors"


def load(folder: Path, **options: Any) -> Any:
    return VideoLlama2ForConditionalGeneration.from_pretrained(folder, **options)


def same_weights(one: Any, two: Any) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return set(first) == set(second) and all(torch.equal(first[n], second[n]) for n in first)


def test_auto_classes_read_the_official_folder(official: Path) -> None:
    config: Any = AutoConfig.from_pretrained(official)
    assert type(config).__name__ == "VideoLlama2Config"
    assert (config.num_frames, config.text_config.vocab_size) == (8, 80)
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    reference = tiny_model()
    for kind in (AutoModelForMultimodalLM, AutoModelForCausalLM):
        auto: Any = kind
        model = auto.from_pretrained(official)
        assert type(model) is VideoLlama2ForConditionalGeneration
        assert not model.training
        assert same_weights(model, reference)
        # One of the two has to be wrong about the projector: the weights know.
        assert (config.audio_projector_depth, model.config.audio_projector_depth) == (1, 2)
    found, expected = model.config.audio_config.to_dict(), reference.config.audio_config.to_dict()
    assert found | {"dtype": None} == expected
    assert model.generation_config.repetition_penalty == 1.05
    assert model.generation_config.eos_token_id == [36, 34]
    processors: Any = AutoProcessor
    assert type(processors.from_pretrained(official)) is VideoLlama2Processor


def test_settings_and_dtype_can_be_given(official: Path) -> None:
    model = load(official, num_frames=16, dtype=torch.bfloat16, attn_implementation="eager")
    assert model.config.num_frames == 16
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.config._attn_implementation == "eager"
    assert model.config.name_or_path == str(official)
    _, found = load(official, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert VideoLlama2Config.from_pretrained(official, num_frames=32).num_frames == 32


def test_saved_folder_is_plain_and_the_same(official: Path, tmp_path: Path) -> None:
    model = load(official)
    model.save_pretrained(tmp_path)
    VideoLlama2Processor.from_pretrained(official).save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}
    auto: Any = AutoModelForMultimodalLM
    again = auto.from_pretrained(tmp_path)
    assert same_weights(again, model)
    ids = torch.randint(1, 70, (1, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.config.to_dict() == model.config.to_dict() | {
        name: again.config.to_dict()[name] for name in ("_name_or_path",) if name in again.config
    }


def test_a_repository_of_the_hub(official: Path, tmp_path: Path) -> None:
    """As it lies in the hub's cache after a download; the name alone must not load nothing."""
    name, commit = "authors/video-llama", "0" * 40
    store = tmp_path / f"models--{name.replace('/', '--')}"
    shutil.copytree(official, store / "snapshots" / commit)
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text(commit)
    options: dict[str, Any] = {"cache_dir": tmp_path, "local_files_only": True}
    # An Auto class would ask the hub for adapters first, for half a minute without a network.
    model = load(Path(name), **options)
    assert same_weights(model, load(official))
    assert model.config.name_or_path == name
    processors: Any = AutoProcessor
    assert type(processors.from_pretrained(name, **options)) is VideoLlama2Processor
    with pytest.raises(
        ConfigError, match="'authors/other' is not a folder, not in the local cache"
    ):
        load(Path("authors/other"), **options)


def test_the_tokenizers_published_files(tmp_path: Path, heard: Path) -> None:
    """Qwen2's vocabulary and merges, here of bytes, and its special tokens."""
    folder = write_official(tmp_path, tiny_model(vocab_size=300), vocab_size=300)
    for path in folder.glob("token*.json"):
        path.unlink()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    added = {
        str(256 + number): {"content": name, "special": True, **flags}
        for number, name in enumerate(SPECIAL)
    }
    settings = {"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    processors: Any = AutoProcessor
    processor = processors.from_pretrained(folder)
    assert type(processor.tokenizer).__name__.startswith("Qwen2Tokenizer")
    ids = processor(video=heard, text="What?", sound=False)["input_ids"][0].tolist()
    text = processor.tokenizer.decode([token for token in ids if token < 297])
    assert text.endswith("user\n\nWhat?<|im_end|>\n<|im_start|>assistant\n")
    assert ids.count(298) == 16


def test_the_models_memory_is_its_own(tmp_path: Path) -> None:
    model = load(write_official(tmp_path))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for path in tmp_path.glob("*"):
        path.write_bytes(b"\0" * path.stat().st_size)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_one_table_of_positions_is_enough(tmp_path: Path, official: Path) -> None:
    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [n for n in tensors if "layers.1.self_attn.relative_attention_bias" in n]:
            del tensors[name]

    assert same_weights(load(write_official(tmp_path, edit=drop)), load(official))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda t: t.update({"model.extra.weight": torch.ones(1)}),
            "1 unexpected tensors: model.language_model.extra.weight",
        ),
        (lambda t: t.pop("model.norm.weight"), "1 missing tensors: .*norm.weight"),
        (lambda t: t.pop("model.mm_projector.sampler.0.bias"), "missing.*sampler.0.bias"),
        (
            lambda t: t.update({"lm_head.weight": torch.ones(3, 48)}),
            r"wrong shape: lm_head.weight \(3, 48\) instead of \(80, 48\)",
        ),
        (
            lambda t: t[
                "model.audio_tower.encoder.layers.1.self_attn.relative_attention_bias.weight"
            ].add_(1),
            "layers.1.self_attn.* differs from the table of layer 0",
        ),
        (
            lambda t: [t.pop(n) for n in list(t) if n.startswith("model.audio_tower.")],
            "lacks 4 tensors of the sound tower: .*Is 'audio_tower.bin' there",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_listed(
    tmp_path: Path, edit: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    folder = write_official(tmp_path, edit=edit)
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_missing_shard(tmp_path: Path, official: Path) -> None:
    shutil.copytree(official, tmp_path / "copy")
    (tmp_path / "copy" / SHARD).unlink()
    with pytest.raises(ConfigError, match=f"lacks 1 of 2 shards: {SHARD}"):
        load(tmp_path / "copy")


def without_tower(folder: Path, **fields: Any) -> Path:
    """An official folder whose vision tower is given by name only."""

    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(VISION)]:
            del tensors[name]

    return write_official(folder, edit=drop, **fields)


def test_tower_that_is_only_named(tmp_path: Path) -> None:
    folder = without_tower(tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match="names 'google/siglip-tiny', which is not on this"):
        load(folder)
    tower = SiglipVisionModel(SiglipVisionConfig(**FLAT["vision_config"]))
    tower.save_pretrained(folder / "siglip-tiny")
    model = load(folder)
    found, expected = model.model.vision_tower.state_dict(), tower.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert len(model.model.vision_tower.encoder.layers) == 2


def test_tower_in_a_folder_of_its_own(tmp_path: Path) -> None:
    tower = SiglipVisionModel(SiglipVisionConfig(**FLAT["vision_config"]))
    tower.save_pretrained(tmp_path / "tower")
    place = str(tmp_path / "tower")
    folder = without_tower(tmp_path / "checkpoint", mm_vision_tower=place, vision_config=None)
    weight = load(folder).model.vision_tower.embeddings.patch_embedding.weight
    assert torch.equal(weight, tower.embeddings.patch_embedding.weight)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mm_projector_type": "mlp2x_gelu"}, "`mm_projector_type` must be 'stc_connector_v35'"),
        ({"mm_projector_a_type": "qformer"}, "must be 'linear' or 'mlpNx_gelu'"),
        ({"vision_config": None}, "'google/siglip-tiny', whose sizes are not known"),
        ({"mm_vision_select_layer": -9}, "names none of the tower's 4 hidden states"),
        ({"num_frames": 1}, "`num_frames` must be at least 2"),
    ],
)
def test_settings_that_are_not_built_here(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = write_official(tmp_path, **fields)
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_linear_projector(tmp_path: Path) -> None:
    def flatten(tensors: dict[str, Tensor]) -> None:
        for kind in ("weight", "bias"):
            del tensors[f"model.mm_projector_a.2.{kind}"]
            tensors[f"model.mm_projector_a.{kind}"] = tensors.pop(f"model.mm_projector_a.0.{kind}")

    model = load(write_official(tmp_path, edit=flatten))
    assert len(model.model.mm_projector_a) == 1


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_published_settings_are_inspected_without_weights(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 3584,
        "hidden_size_a": 3584,
        "intermediate_size": 18944,
        "mm_hidden_size": 1152,
        "mm_hidden_size_a": 768,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    }
    published = {**FLAT, **sizes, "bos_token_id": 151643, "eos_token_id": 151645}
    del published["vision_config"]
    (tmp_path / "config.json").write_text(json.dumps(published))
    result = invoke("inspect", tmp_path, "--method", "fastav", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["placeholders"] == {"image": 152061, "video": 152062, "audio": 152063}
    assert found["global_rule"] == {"video": "all", "audio": "first 10 tokens"}
    counts = found["plans"][1]["tokens_per_layer"]
    assert counts[:18] == [2222] * 14 + [736, 598, 488, 400]
    default, read = VideoLlama2Config(), VideoLlama2Config.from_pretrained(tmp_path)
    for part in ("vision_config", "audio_config"):
        assert getattr(default, part).to_dict() == getattr(read, part).to_dict()
    ours, theirs = (config.get_text_config().to_dict() for config in (default, read))
    for name in ("rope_parameters", "layer_types", "num_key_value_heads", "rms_norm_eps"):
        assert ours[name] == theirs[name]


def test_convert(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "plain"
    result = invoke("convert", official, target, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model_type"] == "videollama2_qwen2"
    assert found["dtype"] == "float32"
    assert set(found["files"]) == {path.name for path in target.iterdir()}
    assert found["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    assert [path.name for path in target.parent.iterdir()] == ["plain"]
    auto: Any = AutoModelForMultimodalLM
    assert same_weights(auto.from_pretrained(target), load(official))
    stored = load_file(target / "model.safetensors")
    assert found["parameters"] == sum(tensor.numel() for tensor in stored.values())
    table = invoke("convert", official, tmp_path / "again")
    assert "197,748" in table.stdout.replace(f"{found['parameters']:,}", "197,748")
    for arguments, message in (
        ((official, target), "is in use"),
        ((target, tmp_path / "other"), "is plain"),
        ((tmp_path / "new", tmp_path / "other"), "holds no model that can be converted"),
    ):
        refused = invoke("convert", *arguments)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert not (tmp_path / "other").exists()
    assert "Example: fastav convert" in invoke("convert", "--help").stdout


def test_convert_leaves_nothing_behind_when_it_fails(official: Path, tmp_path: Path) -> None:
    shutil.copytree(official, tmp_path / "broken")
    save_file({"other": torch.ones(1)}, tmp_path / "broken" / SHARD)
    refused = invoke("convert", tmp_path / "broken", tmp_path / "new")
    assert refused.exit_code == 2
    assert "tensors of their index" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_other_models_are_not_converted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    refused = invoke("convert", tmp_path, tmp_path / "new")
    assert refused.exit_code == 2
    assert "'qwen2', which transformers reads as it is" in refused.stderr


def test_settings_beside_the_authors_files(official: Path, tmp_path: Path) -> None:
    folder = tmp_path / "official"
    shutil.copytree(official, folder)
    FastAVConfig(method="divprune", visual_keep_ratio=0.25).save_pretrained(folder)
    found = FastAVConfig.for_model(load(folder))
    assert (found.method, found.visual_keep_ratio) == ("divprune", 0.25)
    assert found.source == str(folder / "fastav_config.json")
    assert FastAVConfig.for_model(folder) == found
    assert FastAVConfig.for_model(folder, preset="safe").source.endswith("audio-visual models")
