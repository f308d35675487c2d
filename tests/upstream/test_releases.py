"""The tested window of releases: said once, followed everywhere, and what happens outside it."""

from __future__ import annotations

import configparser
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from packaging.requirements import Requirement
from packaging.version import Version

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach
from fastav_plugin.binding.binding import Binding
from fastav_plugin.upstream import releases
from fastav_plugin.upstream.releases import NEWEST, NEWEST_TORCH, OLDEST, OLDEST_TORCH
from tests.support.small_models import COUNTS, cache, config, generate, prompt, qwen2

ROOT = Path(__file__).parents[2]


def requirement(name: str) -> Requirement:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    found = [Requirement(line) for line in lines if line.strip()]
    return next(item for item in found if item.name == name)


def test_the_installed_releases_are_in_the_window() -> None:
    assert Version(OLDEST) <= Version(transformers.__version__) <= Version(NEWEST)
    assert Version(OLDEST_TORCH) <= Version(Version(torch.__version__).public)


@pytest.mark.parametrize(("name", "oldest"), [("transformers", OLDEST), ("torch", OLDEST_TORCH)])
def test_setup_states_the_oldest(name: str, oldest: str) -> None:
    (only,) = requirement(name).specifier
    assert only.operator == ">="
    assert Version(only.version) == Version(oldest)


@pytest.mark.parametrize(("name", "newest"), [("transformers", NEWEST), ("torch", NEWEST_TORCH)])
def test_the_newest_is_what_is_developed_with(name: str, newest: str) -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    assert f"{name}=={newest}" in pins


def test_the_readme_states_the_window() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"| transformers | {releases.tested()} |" in readme
    assert f"| torch | {releases.tested('torch')} |" in readme


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has warned of no release."""
    monkeypatch.setattr(releases, "_warned", set())
    return monkeypatch


OLD = ["5.10.4", "4.57.6", "5.18.0", "5.19.0.dev0", "5.19.0rc1"]
ODD = ["unknown", "main-3f2a91c", "5.24-dirty-build", ""]


@pytest.mark.parametrize("version", [*OLD, *ODD])
def test_other_releases_are_refused_when_a_model_is_bound(
    unwarned: pytest.MonkeyPatch, version: str
) -> None:
    unwarned.setattr("transformers.__version__", version)
    model = qwen2()
    for use in (
        lambda: attach(model, config()),
        lambda: FastAVConfig.for_model(model),
        lambda: generate(model, prompt(), FastAVCache(config())),
    ):
        with pytest.raises(UnsupportedError) as caught:
            use()
        text = str(caught.value)
        assert (f"'{version}'" if version in ODD else f"transformers {version}") in text
        assert f"pip install 'transformers>={OLDEST},<={NEWEST}'" in text
        assert len(text.splitlines()) == 1
    assert Binding.of(model) is None


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ("5.25.0", f"is newer than {NEWEST}"),
        ("6.0.0", f"is newer than {NEWEST}"),
        ("5.25.0.dev0", f"is newer than {NEWEST}"),
        ("5.25.0.dev0+g1a2b3c4", f"is newer than {NEWEST}"),
        ("5.24.0rc1", "is not a final release"),
    ],
)
def test_a_newer_release_is_warned_of_once_and_runs(
    unwarned: pytest.MonkeyPatch, version: str, what: str
) -> None:
    unwarned.setattr("transformers.__version__", version)
    with pytest.warns(
        UserWarning, match=f"transformers {version.replace('+', '.')} {what}"
    ) as seen:
        past = cache()
        generate(qwen2(), prompt(), past)
        attach(qwen2(1), config())
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)
    assert past.report().tokens_per_layer == COUNTS


@pytest.mark.parametrize("version", [OLDEST, NEWEST, f"{NEWEST}+cpu", "5.21.1"])
def test_the_window_is_silent(unwarned: pytest.MonkeyPatch, version: str) -> None:
    unwarned.setattr("transformers.__version__", version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Binding.of(attach(qwen2(), config())) is not None


IMPORT = """
import transformers
transformers.__version__ = {version!r}
import fastav_plugin
from fastav_plugin import FastAVCache, FastAVConfig
print(len(fastav_plugin.__all__), FastAVCache(FastAVConfig()).get_seq_length())
"""


@pytest.mark.parametrize("version", ["5.10.4", "unknown", "5.25.0.dev0"])
def test_the_package_can_be_imported_under_any_release(version: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", IMPORT.format(version=version)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith(" 0"), done.stderr[-2000:]
