"""Folders and hub ids, told apart by their form."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastav_plugin import ConfigError
from fastav_plugin.hub.ids import check_place, is_hub_id


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-Omni-7B", "org/a", "llava-hf/llava-1.5-7b-hf"])
def test_hub_ids(name: str) -> None:
    assert is_hub_id(name)
    check_place(name)


@pytest.mark.parametrize(
    "name",
    [
        "./model",
        "/models/llava",
        "~/llava",
        "../llava",
        "llava",
        "a/b/c",
        "a//b",
        "org/",
        "",
        "-/x",
    ],
)
def test_what_is_nearly_a_path_does_not_exist(name: str) -> None:
    assert not is_hub_id(name)
    if name:
        with pytest.raises(ConfigError, match=f"'{name}' does not exist. Give the folder"):
            check_place(name)


def test_a_folder_goes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not is_hub_id("org/name")
    check_place("org/name")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        check_place(tmp_path / "file")
