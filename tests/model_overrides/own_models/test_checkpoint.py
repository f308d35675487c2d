"""Checkpoint folders of every layout, whole and damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fastav_plugin import ConfigError
from fastav_plugin.model_overrides.own_models.checkpoint import fit_tensors, read_tensors

TENSORS = {"model.a": torch.arange(6.0).view(2, 3), "model.b": torch.ones(4), "head": torch.ones(1)}


def write(folder: Path, layout: str) -> None:
    first, last = dict(list(TENSORS.items())[:2]), dict(list(TENSORS.items())[2:])
    suffix = "safetensors" if "safetensors" in layout else "bin"
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    save = save_file if suffix == "safetensors" else torch.save
    if "sharded" not in layout:
        save(TENSORS, folder / f"{stem}.{suffix}")
        return
    names = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    save(first, folder / names[0])
    save(last, folder / names[1])
    places = dict.fromkeys(first, names[0]) | dict.fromkeys(last, names[1])
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("layout", ["safetensors", "sharded safetensors", "bin", "sharded bin"])
def test_every_layout_gives_the_same_tensors(tmp_path: Path, layout: str) -> None:
    write(tmp_path, layout)
    assert same(read_tensors(tmp_path), TENSORS)


def test_files_of_the_oldest_torch_format_are_read(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert same(read_tensors(tmp_path), TENSORS)


def test_separate_files_get_their_prefix_and_give_way(tmp_path: Path) -> None:
    write(tmp_path, "safetensors")
    torch.save({"c": torch.zeros(2), "model.b": torch.zeros(4)}, tmp_path / "extra.bin")
    found = read_tensors(tmp_path, {"extra.bin": "model.", "absent.bin": "other."})
    assert same(found, TENSORS | {"model.c": torch.zeros(2)})


def test_missing_shards_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "sharded safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigError, match="lacks 1 of 2 shards: model-00002-of-00002"):
        read_tensors(tmp_path)


def test_a_shard_without_its_tensors_is_found(tmp_path: Path) -> None:
    write(tmp_path, "sharded safetensors")
    save_file({"other": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(ConfigError, match="lack 1 tensors of their index: head"):
        read_tensors(tmp_path)


def test_damage_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no weights"):
        read_tensors(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ConfigError, match="cannot be read.*download complete"):
        read_tensors(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ConfigError, match="no index of weights"):
        read_tensors(tmp_path)


class Planted:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("planted",))


def test_torch_files_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Planted()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tensors(tmp_path)
    assert not (tmp_path / "planted").exists()
    torch.save({"a": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="nothing but named tensors"):
        read_tensors(tmp_path)


def test_every_tensor_is_accounted_for() -> None:
    shapes = {"a": (2, 3), "b": (4,)}
    found = fit_tensors(TENSORS, shapes, lambda name: name.removeprefix("model."), ["he*"])
    assert same(found, {"a": TENSORS["model.a"], "b": TENSORS["model.b"]})


def test_what_does_not_fit_is_listed() -> None:
    shapes = {"model.a": (3, 2), "model.c": (1,), "head": (1,)}
    with pytest.raises(ConfigError) as caught:
        fit_tensors(TENSORS, shapes)
    message = str(caught.value)
    assert "1 unexpected tensors: model.b" in message
    assert "1 missing tensors: model.c" in message
    assert "1 tensors of a wrong shape: model.a (2, 3) instead of (3, 2)" in message
    with pytest.raises(ConfigError, match="20 missing tensors: x0, .*x7 and 12 more"):
        fit_tensors({}, {f"x{number}": (1,) for number in range(20)})
