"""Every Python block of every page runs as it stands, on small models of the real classes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.hooks.base import HOOKS
from fastav_plugin.hooks.registry import METHODS
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from fastav_plugin.model_overrides.registry import OVERRIDES
from tests.pages import stand_ins
from tests.pages.markdown import PAGES
from tests.support.cache_names import CACHE, passing

#: Its tests, in tests/lab/testbed/, give transformers an FFmpeg to read files with.
CARD = "fastav_plugin/lab/testbed/model/README.md"
#: Whole scripts, which take nothing for granted: tests/pages/test_examples.py.
SCRIPTS = {f"deploy/examples/{name}.md" for name in stand_ins.FAMILIES}
WITH_PYTHON = [
    name for name, page in PAGES.items() if page.blocks("python") and name not in {CARD, *SCRIPTS}
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples load, made once."""
    folder = tmp_path_factory.mktemp("published")
    stand_ins.make(folder)
    return folder


@pytest.fixture
def working_folder(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that the examples may write to."""
    folder = tmp_path / "work"
    shutil.copytree(published, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def names_of_an_example() -> dict[str, Any]:
    """What an example may take for granted: a model, its inputs, a config."""
    model, processor = build_model(), build_processor()
    inputs = prepare_inputs(processor, *read_clip(SAMPLES[0].path), "Which sound is heard?")
    return {
        "model": model,
        "processor": processor,
        "inputs": inputs,
        "question_ids": inputs["input_ids"][:, -9:],
        "cfg": FastAVConfig.for_model(model, global_rule="below 20"),
        "torch": torch,
    }


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """The names of examples. Their functions refer to them, and so keep caches that wait."""
    found: dict[str, Any] = {}
    yield found
    found.clear()


@pytest.fixture
def registries() -> Iterator[None]:
    """What the examples register is forgotten afterwards."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (registry, dict(registry)) for registry in (HOOKS, METHODS, OVERRIDES)
    ]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def execute(block: str, page: str, names: dict[str, Any]) -> None:
    """Run an example; the release has one name for the cache, and may refuse the other."""
    named = re.sub(r"\b(?:past_key_values|cache)=", f"{CACHE}=", block)
    exec(compile(named, page, "exec"), names)


# transformers before 5.20 reads pictures with what the newest torchvision calls deprecated.
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
@pytest.mark.parametrize("name", WITH_PYTHON)
def test_blocks_of_a_page(
    registries: None, working_folder: Path, names: dict[str, Any], name: str
) -> None:
    names |= names_of_an_example()
    for block in PAGES[name].blocks("python"):
        execute(block, name, names)


def test_the_first_example_prunes(
    working_folder: Path, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = PAGES["README.md"].blocks("python")[0]
    assert f'"{stand_ins.OMNI}"' in first
    execute(first, "README.md", names)
    report = names["cache"].report()
    assert report.reason is None
    assert report.flops_ratio < 0.5
    counts = report.tokens_per_layer
    assert counts[0] > counts[-1]
    assert capsys.readouterr().out.endswith(f"\n{report}\n")


def test_the_classes_shown_do_what_they_say(
    registries: None, working_folder: Path, names: dict[str, Any]
) -> None:
    names |= names_of_an_example()
    for page in ("hooks/README.md", "model_overrides/README.md"):
        for block in PAGES[page].blocks("python"):
            if "class " in block:
                execute(block, page, names)
    cache = FastAVCache(names["cfg"])
    with torch.no_grad():
        names["model"].generate(**names["inputs"], **passing(cache))
    counts = cache.report().tokens_per_layer
    assert counts[0] > counts[-1]
    assert names["MyFamily"]().placeholders(type("Config", (), {"clip_token_id": 5})())
