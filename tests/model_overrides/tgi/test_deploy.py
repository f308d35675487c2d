"""The files of deploy/: what can be checked without a container engine."""

from __future__ import annotations

import configparser
import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin.model_overrides.tgi.launcher import OPTIONS
from fastav_plugin.serving.media.policy import MediaPolicy

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
SHIMS = ROOT / "model_overrides" / "tgi" / "shims"

# It has no types.
yaml: Any = importlib.import_module("yaml")


def instructions() -> list[tuple[str, str]]:
    """Names and arguments of the Dockerfile, lines joined."""
    text = re.sub(r"(?m)^ *#.*\n", "", (DEPLOY / "tgi" / "Dockerfile").read_text())
    lines = re.sub(r"\\\n", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def shellcheck(*arguments: str, text: str | None = None) -> None:
    command = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([command, *arguments], input=text, capture_output=True, text=True)
    assert not done.returncode, done.stdout


def test_the_shims_are_the_packages_own() -> None:
    assert (DEPLOY / "tgi" / "shims").is_symlink()
    assert (DEPLOY / "tgi" / "shims").resolve() == SHIMS
    for name in ("text-generation-launcher", "text-generation-server"):
        assert (SHIMS / name).stat().st_mode & 0o111


def test_shell_scripts() -> None:
    found = [*FILES, *SHIMS.iterdir()]
    scripts = [path for path in found if re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes())]
    assert len(scripts) >= 2
    for path in [*scripts, SHIMS / "find-real"]:
        shellcheck("--external-sources", f"--source-path={SHIMS}", str(path))


def test_shell_of_the_dockerfile() -> None:
    runs = [argument for name, argument in instructions() if name == "RUN"]
    assert runs
    for run in runs:
        shellcheck("--shell=bash", "-", text=f"set -euo pipefail\n{run}\n")


def test_what_the_image_is_built_from() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    rooms = {line.split(" = ")[1] for line in parser["options"]["package_dir"].split("\n") if line}
    copied: set[str] = set()
    for name, argument in instructions():
        if name == "COPY":
            *sources, _ = argument.split()
            copied |= set(sources)
    assert rooms | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= copied
    assert all((ROOT / source).exists() for source in copied)
    ignored = (DEPLOY / "tgi" / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert instructions()[1] == (
        "FROM",
        "ghcr.io/huggingface/text-generation-inference:${TGI_VERSION}",
    )


def test_the_pins_are_those_that_are_tested() -> None:
    tested = dict(
        line.strip().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
    pins = dict(
        re.findall(r"(?m)^([a-z0-9-]+)==(\S+)$", (DEPLOY / "tgi/requirements.txt").read_text())
    )
    assert pins["transformers"] == tested["transformers"]
    assert pins["typer"] == tested["typer"]
    assert pins["jinja2"] == tested["Jinja2"]
    assert (pins["outlines"], pins["compressed-tensors"]) == ("0.2.3", "0.9.4")


def test_compose() -> None:
    compose: Any = yaml.safe_load((DEPLOY / "tgi" / "compose.yaml").read_text())
    service = compose["services"]["tgi"]
    context = (DEPLOY / "tgi" / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    ours = {name for name in service["environment"] if name.startswith("FASTAV")}
    assert ours <= set(OPTIONS.values())
    folders = {
        volume.split(":")[-2 if volume.endswith(":ro") else -1] for volume in service["volumes"]
    }
    assert service["environment"]["FASTAV_MEDIA_DIR"] in folders
    assert "${FASTAV_MODEL_OVERRIDE-fastav}" == service["environment"]["FASTAV_MODEL_OVERRIDE"]


def test_the_page_names_what_there_is() -> None:
    page = (DEPLOY / "README.md").read_text()
    options = set(re.findall(r"`?(--(?:fastav|model-override)[a-z-]*)", page))
    assert options == set(OPTIONS)
    limits = {field.name: field.default for field in dataclasses.fields(MediaPolicy)}
    for name, default in re.findall(r"(?m)^\| `FASTAV_MEDIA_(\w+)` \| (\d+) \|", page):
        if name == "PRIVATE_HOSTS":
            assert limits.pop("allow_private") == bool(int(default))
        else:
            assert limits.pop(name.lower()) == float(default)
    assert set(limits) == {"media_dir", "allowed_hosts"}


@pytest.mark.slow
def test_a_wheel_holds_the_shims_as_commands(tmp_path: Path) -> None:
    for name in ("fastav_plugin", "hooks", "model_overrides"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "."]
    subprocess.run([*command, "--wheel-dir", "dist"], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        folder = "fastav_plugin/model_overrides/tgi/shims/"
        modes = {
            info.filename.removeprefix(folder): info.external_attr >> 16 & 0o111
            for info in archive.infolist()
            if info.filename.startswith(folder)
        }
        (points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        commands = archive.read(points).decode()
    assert modes["find-real"] == 0
    assert modes["text-generation-launcher"] and modes["text-generation-server"]
    assert "fastav-tgi-launcher" in commands
    assert "text-generation" not in commands
