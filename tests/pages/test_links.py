"""Links, anchors and paths in the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages.markdown import PAGES, ROOT, Page

#: "..." stands for an address in the text.
ELSEWHERE = ("https://", "http://", "...")
#: A file that a page names with its folder; capitals stand for a name of the reader's.
_FILE = re.compile(r"(?:\.?\w[\w.-]*/)+[\w.-]+\.(?:py|md|json|txt|sh|cfg|toml|yaml|png|mp4)")
#: Where a page's relative paths may start besides its own folder.
BASES = (ROOT, ROOT / "fastav_plugin")
#: Made by a command that the page shows, or not part of this project.
MADE = {"demo/report.json", ".releases/", ".venv/", "vlmeval/vlm/"}


def broken_links(page: Page) -> list[str]:
    """Targets that lead nowhere."""
    broken = []
    for target in page.targets():
        if target.startswith(ELSEWHERE):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve()
        if not path.exists() or not path.is_relative_to(ROOT):
            broken.append(target)
            continue
        if anchor:
            there = Page(path, path.read_text(encoding="utf-8")) if name else page
            if anchor not in there.anchors():
                broken.append(target)
    return broken


def missing_files(page: Page) -> list[str]:
    """Files in backticks that are not in the checkout."""
    return [
        words
        for words in page.code()
        if _FILE.fullmatch(words)
        and words not in MADE
        and not any((base / words).exists() for base in (page.path.parent, *BASES))
    ]


def missing_folders(page: Page) -> list[str]:
    """Folders in backticks, written with a slash at the end, that are not in the checkout."""
    return [
        words
        for words in page.code()
        if re.fullmatch(r"(?:\.?[\w-]+/)+", words)
        and words not in MADE
        and not any((base / words).is_dir() for base in (page.path.parent, *BASES))
    ]


def test_the_pages_are_found() -> None:
    assert len(PAGES) >= 15
    assert sum(len(page.targets()) for page in PAGES.values()) >= 40


@pytest.mark.parametrize("name", PAGES)
def test_links_and_paths_of_a_page(name: str) -> None:
    page = PAGES[name]
    assert not broken_links(page)
    assert not missing_files(page)
    assert not missing_folders(page)


def test_the_path_of_a_prompt_names_files() -> None:
    page = PAGES["fastav_plugin/pruning/README.md"]
    _, _, section = page.text.partition("## The path of one prompt, file by file\n")
    shown = re.search(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert shown is not None
    files = re.findall(r"[\w/]+\.py", shown[1])
    assert len(files) >= 20
    bases = (ROOT / "fastav_plugin", page.path.parent, ROOT / "fastav_plugin" / "layers")
    assert not [file for file in files if not any((base / file).is_file() for base in bases)]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        page = Page(path, path.read_text(encoding="utf-8"))
        for target in page.targets():
            found = (path.parent / target.partition("#")[0]).resolve()
            if found.suffix == ".md" and found.is_file():
                waiting.append(found)
    assert {page.path for page in PAGES.values()} <= reached


def test_a_broken_page_is_found(tmp_path: Path) -> None:
    page = Page(
        ROOT / "planted.md",
        "# Here\n\n[a](#here) [b](#there) [c](nowhere.md) [d](README.md#install) "
        "[e](README.md#nothing)\n`hooks/base.py` `hooks/no_such.py` `hooks/` `no_such/`\n"
        "```sh\n[f](neither.md)\n```\n",
    )
    assert broken_links(page) == ["#there", "nowhere.md", "README.md#nothing"]
    assert missing_files(page) == ["hooks/no_such.py"]
    assert missing_folders(page) == ["no_such/"]
