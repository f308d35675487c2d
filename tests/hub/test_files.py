"""Files of hub repositories: the local cache, a hub that answers, and none at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hub.files import cached_file, hub_file, local_folder
from tests.support.hub import COMMIT, NOWHERE, cached, serving

NAME = "org/model"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 5000,
    "pytorch_model.bin": b"b" * 7000,
    "fastav_config.json": json.dumps({"method": "divprune"}).encode(),
    "fastav_calibration.safetensors": b"c" * 10,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that a hub was asked for."""
    with serving(NAME, FILES) as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield asked


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert local_folder(tmp_path) == tmp_path


def test_no_hub_is_one_line_at_once() -> None:
    start = time.monotonic()
    calls: list[Callable[[], Path]] = [
        lambda: local_folder(NAME),
        lambda: hub_file(NAME, "config.json"),
    ]
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        text = str(caught.value)
        assert "not in the local cache" in text and "the hub cannot be reached: " in text
        assert "'org/model' is not a folder" in text
        assert "\n" not in text
    assert time.monotonic() - start < 10


def test_offline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        local_folder(NAME)
    with pytest.raises(ConfigError, match="local_files_only forbids"):
        local_folder(NAME, local_files_only=True)


def test_the_cache_is_enough(cache: Path) -> None:
    files = {name: data for name, data in FILES.items() if name != "pytorch_model.bin"}
    snapshot = cached(cache, NAME, dict(files))
    assert local_folder(NAME) == snapshot
    assert hub_file(NAME, "config.json") == cached_file(NAME, "config.json")
    assert cached_file(NAME, "missing.json") is None


def test_a_part_is_enough_without_weights_only(cache: Path) -> None:
    names = ("config.json", "tokenizer.json", "fastav_calibration.safetensors")
    snapshot = cached(cache, NAME, {name: FILES[name] for name in names})
    assert local_folder(NAME, weights=False) == snapshot
    for local in (False, True):
        with pytest.raises(ConfigError, match="only in part in the local cache"):
            local_folder(NAME, local_files_only=local)


def test_weights_without_a_tokenizer(cache: Path, hub: list[str]) -> None:
    """It is fetched from a hub that answers; without one, what loads them says what lacks."""
    names = ("config.json", "model.safetensors")
    snapshot = cached(cache, NAME, {name: FILES[name] for name in names})
    assert local_folder(NAME, local_files_only=True) == snapshot
    assert not (snapshot / "tokenizer.json").exists()
    assert local_folder(NAME) == snapshot
    assert (snapshot / "tokenizer.json").exists()
    assert "model.safetensors" not in hub


def test_shards_of_an_index_are_needed(cache: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model-1.safetensors": b"1"}
    cached(cache, NAME, {**files, "model.safetensors.index.json": index.encode()})
    with pytest.raises(ConfigError, match="only in part"):
        local_folder(NAME)
    cached(cache, NAME, {"model-2.safetensors": b"2"})
    assert (local_folder(NAME) / "model-2.safetensors").exists()


def test_a_download_says_its_size_and_leaves_out_weights(hub: list[str]) -> None:
    said: list[str] = []
    folder = local_folder(NAME, weights=False, announce=said.append)
    assert folder.name == COMMIT
    assert said == ["Downloading org/model: 57 B in 4 files"]
    assert sorted(hub) == sorted(set(FILES) - {"model.safetensors", "pytorch_model.bin"})
    whole = local_folder(NAME, announce=said.append)
    assert whole == folder
    # The same weights in torch's format are not needed.
    assert {path.name for path in whole.iterdir()} == set(FILES) - {"pytorch_model.bin"}
    assert said[1:] == ["Downloading org/model: 5.1 kB in 5 files"]
    assert local_folder(NAME, announce=said.append) == folder
    assert len(said) == 2


def test_settings_on_the_hub(hub: list[str]) -> None:
    config = FastAVConfig.from_pretrained(NAME)
    assert (config.method, config.source) == ("divprune", "fastav_config.json of org/model")
    assert hub == ["fastav_config.json"]
    with pytest.raises(ConfigError, match="on the hub holds no 'missing.json'"):
        hub_file(NAME, "missing.json")


def test_a_name_that_is_not_on_the_hub(hub: list[str]) -> None:
    with pytest.raises(ConfigError, match="there is none of that name on the hub"):
        local_folder("org/other")
    assert hub == []
