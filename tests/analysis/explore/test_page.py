"""The file: whole in itself, and nothing of a user in its markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fastav_plugin import ConfigError
from fastav_plugin.analysis.explore.page import check_page, render
from fastav_plugin.display.palette import MODALITIES
from tests.analysis.explore.conftest import HOSTILE, QUESTION, Explored


class Parser(HTMLParser):
    """Elements with their attributes, and the text in each kind of element."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.text[self.elements[-1][0]][-1] += data


def parsed(text: str) -> Parser:
    parser = Parser()
    parser.feed(text)
    return parser


def test_nothing_of_a_user_becomes_markup(explored: Explored) -> None:
    page = parsed(explored.path.read_text(encoding="utf-8"))
    (title,) = page.text["title"]
    assert title.rstrip("\n") == QUESTION + HOSTILE
    assert not [tag for tag, _ in page.elements if tag == "img"]
    data, _ = page.text["script"]
    assert json.loads(data) == explored.data
    assert json.loads(data)["dense"]["answer"] == ("dense " + HOSTILE).strip()
    assert "<" not in data


def test_it_asks_for_no_other_file(explored: Explored) -> None:
    text = explored.path.read_text(encoding="utf-8")
    page = parsed(text)
    for tag, attributes in page.elements:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
        assert tag not in ("link", "iframe", "object", "embed", "base")
    (style,) = page.text["style"]
    assert "url(" not in style and "@import" not in style
    (policy,) = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    # Addresses stand in the text of users, and name the language of drawings.
    script = page.text["script"][1]
    assert set(re.findall(r"https?://[^\"' ]+", script)) == {"http://www.w3.org/2000/svg"}
    assert len(text) < 300_000


def test_colours_are_those_of_all_pictures(explored: Explored) -> None:
    (style,) = parsed(explored.path.read_text(encoding="utf-8")).text["style"]
    for name, colour in MODALITIES.items():
        assert f"--{name}: {colour};" in style


def test_the_same_data_give_the_same_page(explored: Explored) -> None:
    assert render(explored.data) == explored.path.read_text(encoding="utf-8")


def test_what_a_page_may_be_called() -> None:
    check_page(Path("a.HTML"))
    with pytest.raises(ConfigError, match="written as .html or .htm, got 'a.png'"):
        check_page(Path("a.png"))
