"""The files that make wheels, editable installs and uninstalled trees agree."""

import ast
import configparser
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.architecture.imports import LINKED

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastav_plugin"

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "constraints.txt",
    "deploy",
    "fastav_plugin",
    "hooks",
    "model_overrides",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tests",
}


#: Run from a checkout alone.
TRAINING = {"fastav_plugin.lab.testbed.training", "fastav_plugin.lab.real_audio.training"}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(parser: configparser.ConfigParser, section: str, option: str) -> list[str]:
    return [line.strip() for line in parser[section][option].splitlines() if line.strip()]


def test_the_list_of_packages_is_complete(setup: configparser.ConfigParser) -> None:
    found = {
        ".".join(Path(folder).relative_to(ROOT).parts)
        for folder, _, files in os.walk(PACKAGE, followlinks=True)
        if "__init__.py" in files
    }
    assert found > TRAINING
    assert set(lines(setup, "options", "packages")) == found - TRAINING


def test_folders_with_modules_are_packages() -> None:
    walked = {folder: files for folder, _, files in os.walk(PACKAGE, followlinks=True)}
    found = {
        folder: files
        for folder, files in walked.items()
        if any(name.endswith(".py") for name in files)
    }
    assert {str(PACKAGE / room) for room in LINKED} < set(found)
    assert [folder for folder, files in found.items() if "__init__.py" not in files] == []


def test_the_rooms_are_mapped(setup: configparser.ConfigParser) -> None:
    mapping = dict(line.split(" = ") for line in lines(setup, "options", "package_dir"))
    assert mapping == {
        "fastav_plugin": "fastav_plugin",
        **{f"fastav_plugin.{room}": room for room in LINKED},
    }


@pytest.mark.parametrize("room", LINKED)
def test_the_links_are_relative(room: str) -> None:
    link = PACKAGE / room
    assert link.is_symlink()
    assert os.readlink(link) == f"../{room}"
    assert link.resolve() == ROOT / room
    assert not (ROOT / room).is_symlink()


def test_one_file_is_one_module() -> None:
    assert "fastav_plugin.hooks" in sys.modules
    assert "hooks" not in sys.modules
    assert "model_overrides" not in sys.modules


def test_the_version_is_a_literal(setup: configparser.ConfigParser) -> None:
    """setup.cfg reads it from the source; anything else would import torch to build."""
    assert setup["metadata"]["version"] == "attr: fastav_plugin.__version__"
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and [ast.unparse(target) for target in node.targets] == ["__version__"]
    ]
    assert len(values) == 1
    assert isinstance(values[0], ast.Constant)
    parts = str(values[0].value).split(".")
    assert len(parts) == 3
    assert all(part.isdigit() for part in parts)


def test_dependencies(setup: configparser.ConfigParser) -> None:
    def names(found: list[str]) -> list[str]:
        return [line.split(">")[0].split("=")[0] for line in found]

    core = names(lines(setup, "options", "install_requires"))
    assert core == ["rich", "safetensors", "torch", "transformers", "typer"]
    extras = {
        name: names(lines(setup, "options.extras_require", name))
        for name in setup["options.extras_require"]
    }
    assert set(extras) >= {"media", "heic", "serve", "viz", "all", "flash", "dev"}
    assert {"transformers[serving]", "torchcodec", "soundfile", "soxr"} <= set(extras["serve"])
    assert {"fastav-plugin[serve]", "openai"} <= set(extras["dev"])
    assert {"av", "pillow", "torchvision", "soundfile"} <= set(extras["media"])
    assert extras["viz"] == ["matplotlib"]
    assert setup["options"]["python_requires"] == ">=3.11"


def pinned() -> dict[str, str]:
    """Versions that the suite runs with, by lower-case name."""
    found = (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return {name.lower(): version for name, version in found}


@pytest.mark.parametrize("extra", ["", "media", "heic", "serve", "viz", "flash"])
def test_dependencies_state_their_oldest_version(
    setup: configparser.ConfigParser, extra: str
) -> None:
    option = ("options.extras_require", extra) if extra else ("options", "install_requires")
    stated_here = lines(setup, *option)
    assert stated_here
    for line in stated_here:
        stated = Requirement(line)
        assert [part.operator for part in stated.specifier].count(">=") == 1, line
        # No wheel of flash-attn is built for the machines that the suite runs on.
        if stated.name != "flash-attn":
            assert pinned()[stated.name] in stated.specifier, line


def test_a_package_has_one_oldest_version(setup: configparser.ConfigParser) -> None:
    stated = lines(setup, "options", "install_requires")
    for extra in ("media", "heic", "serve", "viz", "flash"):
        stated += lines(setup, "options.extras_require", extra)
    found: dict[str, set[str]] = {}
    for line in stated:
        name, oldest = line.replace("[serving]", "").split(">=")
        found.setdefault(name, set()).add(oldest)
    assert {name: several for name, several in found.items() if len(several) > 1} == {}


def test_tools_of_development_are_pinned(setup: configparser.ConfigParser) -> None:
    """They state no oldest version: `make` installs the very versions of constraints.txt."""
    dev = lines(setup, "options.extras_require", "dev")
    assert {"mypy", "pytest", "ruff"} <= {name for name in dev if "[" not in name} <= set(pinned())


def test_the_command_line_is_an_entry_point(setup: configparser.ConfigParser) -> None:
    assert lines(setup, "options.entry_points", "console_scripts") == [
        "fastav = fastav_plugin.cli:main",
        "fastav-tgi-launcher = fastav_plugin.model_overrides.tgi.launcher:main",
    ]
    from fastav_plugin.cli import main

    assert callable(main)


def test_types_are_shipped(setup: configparser.ConfigParser) -> None:
    assert (PACKAGE / "py.typed").exists()
    assert "py.typed" in setup["options.package_data"]["fastav_plugin"]


def test_licence() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:400]


def test_pyproject_bans_the_second_name() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == set(LINKED)
    assert settings["build-system"]["build-backend"] == "setuptools.build_meta"


def test_the_top_level_is_fixed() -> None:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    found = {line.split("/")[0] for line in done.stdout.splitlines()}
    assert found <= TOP_LEVEL


WITHOUT_EXTRAS = """
import importlib, pkgutil, sys
EXTRAS = ("av", "kaldi_native_fbank", "matplotlib", "soundfile", "flash_attn", "peft")
for name in (*EXTRAS, "accelerate", "fastapi", "uvicorn", "openai", "torchcodec"):
    sys.modules[name] = None
import fastav_plugin
for module in pkgutil.walk_packages(fastav_plugin.__path__, "fastav_plugin."):
    # The testbed films its own clips: a room that is an extra as a whole.
    if not module.name.startswith(("fastav_plugin.lab.testbed.", "fastav_plugin.__main__")):
        importlib.import_module(module.name)
print("imported")
"""


def test_every_module_imports_without_extras() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "imported", done.stderr[-2000:]
