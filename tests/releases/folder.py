"""A release of transformers in a folder of its own, beside the installed packages."""

from __future__ import annotations

import csv
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.releases.errors import CannotRun

#: Of `pip install transformers[...]`: without one, and the one that the server tests need.
EXTRAS = ("", "serving")


def pip_install(version: str, target: Path) -> None:
    """Install one release, without what it depends on.

    Raises:
        CannotRun: pip failed.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-compile", "--target", str(target), f"transformers=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        why = lines[-1].removeprefix("ERROR: ") if lines else f"exit status {done.returncode}"
        raise CannotRun(f"pip cannot install transformers {version}: {why}")


def release_folder(
    version: str, within: Path, install: Callable[[str, Path], None] = pip_install
) -> tuple[Path, bool]:
    """The folder of a release, and whether it was installed just now.

    A folder with missing or truncated files is made anew.

    Args:
        version: of transformers.
        within: the folder of all releases.
        install: puts a release into a folder.
    Raises:
        CannotRun: it cannot be installed.
    """
    folder = within / version
    if is_whole(folder, version):
        return folder, False
    within.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=within, prefix=f".{version}.") as partial:
        target = Path(partial) / version
        install(version, target)
        if not is_whole(target, version):
            raise CannotRun(f"pip installed no whole transformers {version}. Run it again.")
        shutil.rmtree(folder, ignore_errors=True)
        target.rename(folder)
    return folder, True


def is_whole(folder: Path, version: str) -> bool:
    """Whether every file is there, in the size that the release's own RECORD states."""
    record = folder / f"transformers-{version}.dist-info" / "RECORD"
    if not record.is_file() or len(list(folder.glob("transformers-*.dist-info"))) != 1:
        return False
    with record.open(encoding="utf-8", newline="") as lines:
        return all(
            _has_size(folder / name, size)
            for name, _, size in csv.reader(lines)
            # Scripts go to another place with --target; byte code is made when needed.
            if not name.startswith("..") and not name.endswith(".pyc")
        )


def _has_size(path: Path, size: str) -> bool:
    return path.is_file() and (not size or path.stat().st_size == int(size))


def check_dependencies(folder: Path, version: str) -> None:
    """Check that the installed packages are what the release asks for.

    Raises:
        CannotRun: a package is missing or has another version.
    """
    for needed in requirements(folder):
        try:
            found = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found == "missing" or not needed.specifier.contains(found, prereleases=True):
            wanted = f"{needed.name}{needed.specifier}"
            state = "which is not installed" if found == "missing" else f"installed is {found}"
            raise CannotRun(
                f"transformers {version} needs {wanted}, {state}. Run: pip install '{wanted}'"
            )


def requirements(folder: Path) -> Iterator[Requirement]:
    """What the release in a folder depends on here, extras for the tests included."""
    (release,) = importlib.metadata.distributions(name="transformers", path=[str(folder)])
    for line in release.requires or ():
        needed = Requirement(line)
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in EXTRAS
        ):
            yield needed
