"""What a type checker says of a user's own file, from a checkout and from an editable install."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.architecture.test_distributions import build, checkout, tracked

ROOT = Path(__file__).parents[2]

#: Lines that are right, and lines that are wrong with the words of their error.
USED = """
from transformers import LlavaForConditionalGeneration

from fastav_plugin import FastAVCache, FastAVConfig, LayerHook, attach, detach
from fastav_plugin.hooks import DivPrune
from fastav_plugin.model_overrides import ModelOverride


def use(model: LlavaForConditionalGeneration) -> None:
    config = FastAVConfig(method="divprune", visual_keep_ratio=0.25)
    config = FastAVConfig.for_model(model, "divprune", audio_keep_ratio=None, preset="safe")
    config = FastAVConfig.for_model("org/name", config="settings", global_rule={"video": "all"})
    words: str = config.source
    same: LlavaForConditionalGeneration = detach(attach(model, config))
    attach(model).generate
    print(words, same, FastAVCache(config), LayerHook, DivPrune(0.5), ModelOverride)


def misuse(model: LlavaForConditionalGeneration) -> None:
    FastAVConfig(visual_keep=0.25)  # Unexpected keyword argument "visual_keep"
    FastAVConfig(min_media_tokens="64")  # Argument "min_media_tokens"
    FastAVConfig("divprune")  # Too many positional arguments
    FastAVConfig.for_model(model, visual_keep=0.25)  # Unexpected keyword argument "visual_keep"
    FastAVConfig.for_model(model, fine_drop_ratio="a")  # Argument "fine_drop_ratio"
    FastAVConfig.for_model(model, preset="balancd")  # Argument "preset"
    attach("model")  # Value of type variable
"""


def check(file: Path, *options: str, **environment: str) -> list[str]:
    """What mypy finds in a file, which it takes for a user's own."""
    file.write_text(USED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *options, str(file)]
    done = subprocess.run(
        command,
        cwd=ROOT if "--config-file" in options else file.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def agree(found: list[str]) -> None:
    """One error per line that is wrong, and none elsewhere."""
    wrong = {
        number: text.partition("  # ")[2]
        for number, text in enumerate(USED.splitlines(), 1)
        if "  # " in text
    }
    assert [int(line.split(":")[1]) for line in found] == list(wrong), "\n".join(found)
    for line, words in zip(found, wrong.values(), strict=True):
        assert words in line


def test_fields_and_attached_models_have_their_types(tmp_path: Path) -> None:
    """With the settings of the project, whose cache knows torch and transformers already."""
    agree(check(tmp_path / "user.py", "--config-file", str(ROOT / "setup.cfg")))


@pytest.mark.slow
def test_an_editable_install_has_types(tmp_path: Path, checkout: Path) -> None:
    """As `pip install -e .` makes it; its dependencies are those of this environment."""
    made = tmp_path / "made"
    made.mkdir()
    wheel = build("editable", checkout, made)
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=False)
    packages = next(fresh.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    paths = "\n".join(site.getsitepackages())
    (packages / "dependencies.pth").write_text(paths + "\n", encoding="utf-8")
    python = fresh / "bin" / "python"
    (tmp_path / "user").mkdir()
    agree(check(tmp_path / "user" / "user.py", "--strict", "--python-executable", str(python)))
    where = [str(python), "-c", "import fastav_plugin.hooks as h; print(h.__file__)"]
    done = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(checkout)), done.stderr


__all__ = ["checkout", "tracked"]
