"""Releases in folders of their own: installed once, whole, with what they depend on."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from tests.releases.errors import CannotRun
from tests.releases.folder import check_dependencies, is_whole, release_folder, requirements

VERSION = "999.0.0"


def write_release(target: Path, version: str = VERSION, *requires: str) -> None:
    """What pip leaves of a release, in small."""
    info = target / f"transformers-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", "Name: transformers", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    package = target / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    (info / "RECORD").write_text(
        f"../../bin/transformers,sha256=a,9\n"
        f"transformers/__init__.py,sha256=a,6\n"
        f"transformers/__pycache__/__init__.cpython-311.pyc,,\n"
        f"{info.name}/RECORD,,\n"
    )


class Installer:
    """Counts what is installed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, version: str, target: Path) -> None:
        self.count += 1
        write_release(target, version)


def test_installed_once(tmp_path: Path) -> None:
    install = Installer()
    within = tmp_path / ".releases"
    assert release_folder(VERSION, within, install) == (within / VERSION, True)
    assert release_folder(VERSION, within, install) == (within / VERSION, False)
    assert install.count == 1
    assert [path.name for path in within.iterdir()] == [VERSION]


@pytest.mark.parametrize("damage", ["missing", "truncated", "no record", "two releases", "empty"])
def test_a_half_install_is_made_anew(tmp_path: Path, damage: str) -> None:
    install = Installer()
    folder, _ = release_folder(VERSION, tmp_path, install)
    module = folder / "transformers" / "__init__.py"
    if damage == "missing":
        module.unlink()
    elif damage == "truncated":
        module.write_text("")
    elif damage == "no record":
        (folder / f"transformers-{VERSION}.dist-info" / "RECORD").unlink()
    elif damage == "two releases":
        (folder / "transformers-4.0.0.dist-info").mkdir()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    assert not is_whole(folder, VERSION)
    assert release_folder(VERSION, tmp_path, install) == (folder, True)
    assert is_whole(folder, VERSION)


def test_an_installation_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def stop(version: str, target: Path) -> None:
        target.mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        release_folder(VERSION, tmp_path, stop)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CannotRun, match=f"no whole transformers {VERSION}"):
        release_folder(VERSION, tmp_path, lambda version, target: target.mkdir())


def test_dependencies_that_fit(tmp_path: Path) -> None:
    found = importlib.metadata.version("pytest")
    write_release(
        tmp_path,
        VERSION,
        f"pytest=={found}",
        "no-such-package; python_version < '3'",
        "no-such-package; extra == 'audio'",
        "pluggy; extra == 'serving'",
    )
    check_dependencies(tmp_path, VERSION)
    assert [one.name for one in requirements(tmp_path)] == ["pytest", "pluggy"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pytest<2", r"needs pytest<2, installed is [\d.]+. Run: pip install 'pytest<2'$"),
        ("no-such-package>=1", r"needs no-such-package>=1, which is not installed. Run: pip"),
        ("no-such-package; extra == 'serving'", "needs no-such-package, which is not installed."),
    ],
)
def test_dependencies_that_do_not_fit(tmp_path: Path, line: str, message: str) -> None:
    write_release(tmp_path, VERSION, line)
    with pytest.raises(CannotRun, match=f"^transformers {VERSION} {message}"):
        check_dependencies(tmp_path, VERSION)
