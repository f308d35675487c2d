"""The command for a missing extra, with packages that pip really installed."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin import installation
from fastav_plugin.installation import NAME, install_hint

ROOT = Path(__file__).parents[1]
START = "Install with: pip install "
PROJECT = f"""
[metadata]
name = {NAME}
version = 0.0.1
[options]
py_modules =
[options.extras_require]
media =
    av>=10
    pillow
viz =
    matplotlib
"""
BUILD = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'

Seen = Callable[[Path], None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Let importlib.metadata see the distributions of one folder alone."""
    return lambda folder: monkeypatch.setattr(sys, "path", [str(folder)])


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run as a module that does not lie in a checkout."""
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "site" / NAME / "module.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source folder with this package's name and next to nothing in it."""
    folder = tmp_path_factory.mktemp("it's a folder") / "with spaces"
    folder.mkdir()
    (folder / "setup.cfg").write_text(PROJECT)
    (folder / "pyproject.toml").write_text(BUILD)
    return folder


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, project)
    (found,) = folder.iterdir()
    return found


def pip(command: str, *arguments: Any) -> str:
    words = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*words, "--no-index", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(target: Path, *arguments: Any) -> None:
    pip("install", "--no-deps", "--no-build-isolation", "--target", target, *arguments)


def extras_that_pip_takes(hint: str) -> list[str]:
    """Hand the command to pip, which installs nothing and reports what it would install."""
    _, _, *arguments = shlex.split(hint.removeprefix("Install with: "))
    dry = ("--dry-run", "--ignore-installed", "--no-deps", "--no-build-isolation")
    (entry,) = json.loads(pip("install", *dry, "--report", "-", *arguments))["install"]
    assert entry["metadata"]["name"] == NAME
    found: list[str] = entry["requested_extras"]
    return found


def write_record(folder: Path, record: dict[str, Any] | None) -> Path:
    """A distribution as an installer leaves it, with its direct_url.json if it has one."""
    info = folder / "fastav_plugin-0.0.1.dist-info"
    info.mkdir(parents=True)
    requires = "".join(
        f"Requires-Dist: {line}\n"
        for line in ("torch>=2.7", 'av>=10; extra == "media"', "pillow; extra == 'media'")
    )
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {NAME}\n{requires}\n")
    if record is not None:
        (info / "direct_url.json").write_text(json.dumps(record))
    return folder


def test_a_folder_installed_by_pip(project: Path, tmp_path: Path, only: Seen) -> None:
    install(tmp_path, project)
    only(tmp_path)
    hint = install_hint("media")
    assert hint == START + shlex.quote(f"{project}[media]")
    assert extras_that_pip_takes(hint) == ["media"]


def test_a_wheel_installed_by_pip(wheel: Path, tmp_path: Path, only: Seen) -> None:
    install(tmp_path, wheel)
    only(tmp_path)
    hint = install_hint("viz")
    assert hint == f"{START}'{wheel}[viz]'"
    assert extras_that_pip_takes(hint) == ["viz"]


def test_from_an_index(wheel: Path, tmp_path: Path, only: Seen, elsewhere: None) -> None:
    """No record of where it came from: whoever installed it by its name can do so again."""
    install(tmp_path, "--find-links", wheel.parent, NAME)
    only(tmp_path)
    assert install_hint("media") == f"{START}'{NAME}[media]'"


def test_a_repository_installed_by_pip(project: Path, tmp_path: Path, only: Seen) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml"):
        (source / name).write_text((project / name).read_text())
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "start")
    install(tmp_path / "target", f"git+{source.as_uri()}")
    only(tmp_path / "target")
    hint = install_hint("media")
    commit = git("rev-parse", "HEAD")
    assert hint == f"{START}'{NAME}[media] @ git+file://localhost{source}@{commit}'"
    assert extras_that_pip_takes(hint) == ["media"]


def test_an_editable_checkout_stays_editable(project: Path, tmp_path: Path, only: Seen) -> None:
    record = {"url": project.as_uri(), "dir_info": {"editable": True}}
    only(write_record(tmp_path, record))
    hint = install_hint("media")
    assert hint == f"{START}-e " + shlex.quote(f"{project}[media]")
    assert extras_that_pip_takes(hint) == ["media"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"url": "https://a.invalid/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            f"{NAME}[media] @ git+https://a.invalid/b.git@c0ffee",
        ),
        (
            {
                "url": "https://a.invalid/b.git",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "main"},
                "subdirectory": "python",
            },
            f"{NAME}[media] @ git+https://a.invalid/b.git@c0ffee#subdirectory=python",
        ),
        (
            {"url": "https://a.invalid/fastav_plugin-1-py3-none-any.whl", "archive_info": {}},
            f"{NAME}[media] @ https://a.invalid/fastav_plugin-1-py3-none-any.whl",
        ),
    ],
)
def test_addresses(record: dict[str, Any], expected: str, tmp_path: Path, only: Seen) -> None:
    only(write_record(tmp_path, record))
    assert install_hint("media") == f"{START}'{expected}'"


def test_a_source_that_is_gone(tmp_path: Path, only: Seen) -> None:
    """As in an image whose build folder was removed: what the extra requires is named."""
    record = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    only(write_record(tmp_path, record))
    assert install_hint("media") == f"{START}'av>=10' pillow"


def test_a_tree_that_was_not_installed(tmp_path: Path, only: Seen) -> None:
    only(tmp_path)
    hint = install_hint("media")
    assert hint == START + shlex.quote(f"{ROOT}[media]")


def test_what_a_build_leaves_in_a_tree_is_no_index(tmp_path: Path, only: Seen) -> None:
    folder = tmp_path / "fastav_plugin.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.4\nName: {NAME}\nVersion: 0.0.1\n")
    only(tmp_path)
    assert install_hint("media") == START + shlex.quote(f"{ROOT}[media]")


def test_a_copy_without_metadata(tmp_path: Path, only: Seen, elsewhere: None) -> None:
    only(tmp_path)
    assert install_hint("media") == f"{START}'{NAME}[media] @ file:///path/to/checkout'"


def test_this_very_installation() -> None:
    """Every extra of setup.cfg has a command, and the module needs nothing of the package."""
    for extra in ("media", "heic", "serve", "viz", "flash"):
        assert f"[{extra}]" in install_hint(extra)
    found = importlib.util.spec_from_file_location("apart", installation.__file__)
    assert found and found.loader
    apart = importlib.util.module_from_spec(found)
    found.loader.exec_module(apart)
    assert apart.install_hint("viz") == install_hint("viz")
