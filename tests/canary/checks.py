"""The five checks, each in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.canary.commands import run
from tests.canary.readme import LAB, README, NotFound, first_example, install_line

ROOT = Path(__file__).parents[2]
#: Seconds: torch is several gigabytes.
INSTALLING, RUNNING = 3600, 900
#: Not part of a checkout; for a tree without git.
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "demo")
#: Printed where they are installed.
PACKAGES = (
    *("transformers", "torch", "tokenizers", "huggingface-hub", "safetensors"),
    *("typer", "rich", "numpy", "av", "pillow"),
)
SHIPPED = "testbed/model"
FOLDER = """
import importlib.util
print(importlib.util.find_spec("fastav_plugin").submodule_search_locations[0])
"""
VERSIONS = f"""
import importlib.metadata as metadata, platform
print("python", platform.python_version())
for name in {PACKAGES!r}:
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
"""


@dataclass(frozen=True)
class Check:
    """One line of the answer.

    Attributes:
        name: of the check.
        ok: whether it passed.
        text: what it found, or what broke.
    """

    name: str
    ok: bool
    text: str

    def line(self) -> str:
        """As it is printed."""
        return f"{self.name:<9} {'ok' if self.ok else 'BROKE'}: {self.text}"


class Place:
    """A folder with a copy of the checkout and a new environment.

    Args:
        folder: an empty one.
        constraint: a file for pip's -c, or None for the newest of everything.
    """

    def __init__(self, folder: Path, constraint: Path | None = None) -> None:
        self.folder = folder
        self.constraint = constraint
        self.checkout = folder / "checkout"
        self.work = folder / "work"
        self.programs = folder / "environment" / "bin"
        self.python = self.programs / "python"

    def checks(self) -> Iterator[Check]:
        """Run one after the other; without an installation the others are not run."""
        installed = self.install()
        yield installed
        others = {"example": self.example, "inspect": self.inspect, "oracle": self.oracle}
        for name, check in (others | {"versions": self.versions}).items():
            if installed.ok:
                yield check()
            else:
                yield Check(name, False, "not run, as the installation broke")

    def install(self) -> Check:
        """The README's install line, in a new environment."""
        copy_checkout(ROOT, self.checkout)
        self.work.mkdir()
        try:
            words = install_line(self.page(README))
        except NotFound as error:
            return Check("install", False, str(error))
        say("making an environment")
        venv.create(self.folder / "environment", with_pip=True)
        command: list[str | Path] = [self.python, "-m", "pip", *words]
        command += ["--quiet", "--disable-pip-version-check"]
        if self.constraint is not None:
            command += ["-c", self.constraint]
        done = run(command, self.checkout, INSTALLING)
        return Check("install", done.ok, f"pip {' '.join(words)}" if done.ok else done.broke)

    def example(self) -> Check:
        """The first Python block of the lab's page, in a file outside the checkout."""
        try:
            code = first_example(self.page(LAB))
        except NotFound as error:
            return Check("example", False, str(error))
        file = self.work / "example.py"
        file.write_text(code, encoding="utf-8")
        return self.run("example", self.python, file, shown=f"the first example of {LAB}")

    def inspect(self) -> Check:
        """`fastav inspect` on the shipped model."""
        found = run([self.python, "-c", FOLDER], self.work, RUNNING)
        if not found.ok:
            return Check("inspect", False, found.broke)
        model = Path(found.output.strip()) / SHIPPED
        return self.run("inspect", self.programs / "fastav", "inspect", model, shown=SHIPPED)

    def oracle(self) -> Check:
        """Pruned generate() against masked dense, with the package that was installed."""
        # Tests alone: beside them the checkout's own package would be imported.
        place = self.folder / "oracle"
        shutil.copytree(self.checkout / "tests", place / "tests")
        return self.run("oracle", self.python, "-m", "tests.canary.oracle", within=place)

    def versions(self) -> Check:
        """What was installed."""
        done = run([self.python, "-c", VERSIONS], self.work, RUNNING)
        found = ", ".join(done.output.strip().splitlines()) if done.ok else done.broke
        return Check("versions", done.ok, found)

    def run(
        self, name: str, *command: str | Path, shown: str = "", within: Path | None = None
    ) -> Check:
        """One command; its last line is shown where nothing else is."""
        done = run(command, within or self.work, RUNNING)
        last = (done.output.strip().splitlines() or [""])[-1]
        return Check(name, done.ok, (shown or last) if done.ok else done.broke)

    def page(self, name: str) -> str:
        """The text of a page of the checkout."""
        return (self.checkout / name).read_text(encoding="utf-8")


def copy_checkout(root: Path, target: Path) -> None:
    """Copy what git knows or does not ignore; everything visible where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode:
        shutil.copytree(root, target, symlinks=True, ignore=LEFT_OUT)
        return
    for name in filter(None, done.stdout.split("\0")):
        source, copied = root / name, target / name
        if source.is_symlink() or source.is_file():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copied, follow_symlinks=False)


def say(text: str) -> None:
    """Progress."""
    print(f"tests.canary: {text}", file=sys.stderr, flush=True)
