"""The scripts of deploy/examples/ run as they stand, each on small checkpoints of its own class."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastav_plugin import FastAVCache, PruningReport
from fastav_plugin.cli import app
from tests.pages import stand_ins
from tests.pages.markdown import PAGES, Page
from tests.pages.test_python_blocks import execute

FOLDER = "deploy/examples"
#: One page per family; each of its Python blocks is a script of its own.
SCRIPTS = [f"{FOLDER}/{name}.md" for name in stand_ins.FAMILIES]


def quiet(test: Any) -> Any:
    """Let transformers' processors use what torchvision and numpy call deprecated."""
    for text in ("The image decoding", "__array__ implementation"):
        test = pytest.mark.filterwarnings(f"ignore:{text}:DeprecationWarning")(test)
    return test


def fastav_lines(block: str) -> list[list[str]]:
    """Arguments of the fastav commands of a shell block; others need a network."""
    words = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [line[1:] for line in words if line and line[0] == "fastav"]


def other_names(page: Page) -> list[str]:
    """Checkpoints that a page's first script runs with as well: its list of names."""
    return re.findall(r"^- `([\w.-]+/[\w.-]+)`", page.text, re.MULTILINE)


def reports(names: dict[str, Any], printed: str) -> list[tuple[str, float]]:
    """Line and FLOPs ratio of what a script reported."""
    found = []
    for value in names.values():
        if isinstance(value, FastAVCache):
            report: PruningReport = value.report()
            assert report.reason is None
            assert str(report) in printed
            found.append((str(report), report.flops_ratio))
    for line in printed.splitlines():
        share = re.search(r"FLOPs ([\d.]+) % of dense", line)
        if share is not None and not any(line == known for known, _ in found):
            found.append((line, float(share[1]) / 100))
    return found


def run_script(script: str, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run one, which must prune and say so."""
    capsys.readouterr()
    names: dict[str, Any] = {}
    execute(script, page, names)
    ((line, ratio),) = reports(names, capsys.readouterr().out)
    assert 0 < ratio < 0.9, line
    names.clear()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the scripts load, made once."""
    folder = tmp_path_factory.mktemp("published")
    stand_ins.make(folder)
    return folder


@pytest.fixture
def working_folder(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of links to it: the scripts only read it."""
    for entry in published.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_family_has_a_page() -> None:
    assert set(SCRIPTS) <= set(PAGES)
    for name, checkpoints in stand_ins.FAMILIES.items():
        text = PAGES[f"{FOLDER}/{name}.md"].text
        assert all(checkpoint in text for checkpoint in checkpoints)


@quiet
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_of_a_page(
    name: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = 0
    for language, block in PAGES[name].fences():
        if language == "sh":
            for arguments in fastav_lines(block):
                result = CliRunner().invoke(app, arguments)
                assert result.exit_code == 0, result.output
        elif language == "python":
            run_script(block, name, capsys)
            ran += 1
    assert ran


@quiet
@pytest.mark.parametrize(
    ("page", "checkpoint"),
    [(page, checkpoint) for page in SCRIPTS for checkpoint in other_names(PAGES[page])],
)
def test_the_first_script_runs_with_other_checkpoints(
    page: str, checkpoint: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = PAGES[page].blocks("python")[0]
    changed, count = re.subn(r'^name = ".*"$', f'name = "{checkpoint}"', script, flags=re.MULTILINE)
    assert count == 1
    run_script(changed, page, capsys)


@quiet
def test_a_script_that_drops_nothing_is_found(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = PAGES[f"{FOLDER}/llava.md"].blocks("python")[0]
    kept = script.replace("visual_keep_ratio=0.5", "visual_keep_ratio=1.0")
    assert kept != script
    with pytest.raises(AssertionError):
        run_script(kept, "planted", capsys)
    with pytest.raises(NameError):
        run_script(script.replace("import torch\n", ""), "planted", capsys)
