"""The notebook of the first hour shows what its cells give."""

from __future__ import annotations

import base64
import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pages import notebook
from tests.pages.markdown import PAGES, ROOT
from tests.support.cache_names import CACHE

#: Bytes: it is read in a browser, and is part of every checkout.
LARGEST = 600_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    fresh = notebook.read()
    for cell in fresh.cells:
        # The release has one name for the cache, as in the examples of the pages.
        cell.source = re.sub(r"\bcache=cache\b", f"{CACHE}=cache", cell.source)
        if cell.cell_type == "code":
            cell.outputs = []
    return notebook.execute(fresh, tmp_path_factory.mktemp("notebook"))


def test_every_cell_gives_what_is_committed(executed: Any) -> None:
    committed = notebook.texts(notebook.read())
    assert [found for _, found in notebook.texts(executed)] == [shown for _, shown in committed]
    assert len(committed) >= 12


def test_the_picture(executed: Any) -> None:
    for book in (executed, notebook.read()):
        (encoded,) = notebook.pictures(book)
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
            assert picture.width > 1000
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_it_is_small_and_names_no_machine() -> None:
    text = notebook.NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert not re.search(r'"/(?:home|root|tmp|work|usr|Users)/', text)
    assert '"stderr"' not in text


def test_it_shows_what_a_newcomer_meets() -> None:
    book = notebook.read()
    code = "\n".join(source for source, _ in notebook.texts(book))
    for name in ("FastAVCache(", "pruned(", "attach(", "detach(", "preset=", "draw_pruning("):
        assert name in code
    assert notebook.NOTEBOOK.read_text(encoding="utf-8").count('"text/html"') >= 2
    shown = [text for _, found in notebook.texts(book) for text in found]
    assert sum("FLOPs" in text for text in shown) >= 5


def test_its_links_lead_somewhere() -> None:
    folder = notebook.NOTEBOOK.parent
    targets = [
        target
        for cell in notebook.read().cells
        if cell.cell_type == "markdown"
        for target in re.findall(r"\]\(([^()\s]+)\)", cell.source)
    ]
    assert len(targets) >= 5
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (folder / path).is_file(), target
        name = str((folder / path).resolve().relative_to(ROOT))
        assert not anchor or anchor in PAGES[name].anchors(), target


def test_a_changed_output_is_found(executed: Any) -> None:
    changed = copy.deepcopy(executed)
    cell = next(cell for cell in changed.cells if cell.get("outputs"))
    cell.outputs = []
    assert notebook.texts(changed) != notebook.texts(executed)


def test_a_cell_that_fails_is_found(tmp_path: Path) -> None:
    book = notebook.read()
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    code[0].source = "raise KeyError('planted')"
    book.cells = code[:1]
    with pytest.raises(Exception, match="planted"):
        notebook.execute(book, tmp_path)
