"""The page in a real browser, opened as a file: moved through, played, and on a phone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastav_plugin.analysis.explore.page import render
from tests.analysis.explore.conftest import HOSTILE, QUESTION, Explored
from tests.support.browser import Browser, browser, missing, wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

LAST = 8
#: What the page says of the stage and of the last method.
STATE = """
const card = document.querySelectorAll(".card")[2];
return {
  at: Number(document.getElementById("layer").value),
  stage: document.querySelector("#stage span").textContent,
  spoken: document.getElementById("layer").getAttribute("aria-valuetext"),
  counts: [...card.querySelectorAll(".counts b")].map((node) => node.textContent),
  costs: [...card.querySelectorAll(".costs tbody td")].map((td) => td.firstChild.textContent),
  play: document.getElementById("play").getAttribute("aria-label"),
};
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture
def page(chromium: Browser, explored: Explored) -> Iterator[Browser]:
    """The page at its beginning on a desktop; afterwards nothing may have gone wrong."""
    chromium.size(1400, 1000)
    chromium.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    chromium.logged()
    chromium.requested()
    chromium.open(explored.path.as_uri())
    yield chromium
    assert chromium.logged() == []
    assert {address.partition("?")[0] for address in chromium.requested()} == {
        explored.path.as_uri()
    }


def state(page: Browser) -> Any:
    return page.run(STATE)


def settled(page: Browser, at: int) -> Any:
    wait_until(lambda: state(page)["at"] == at)
    return state(page)


def screen(page: Browser, selector: str) -> npt.NDArray[np.int64]:
    """The pixels of what an element shows, int64 [H, W, 3]."""
    found = page.command("POST", "/element", {"using": "css selector", "value": selector})
    content = page.command("GET", f"/element/{next(iter(found.values()))}/screenshot")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), np.int64)


def test_every_stage_shows_the_numbers_of_the_report(page: Browser, explored: Explored) -> None:
    outcome = explored.outcomes[3]
    shown = explored.data["methods"][2]
    assert state(page)["stage"] == "Prompt"
    assert state(page)["counts"] == ["13", "128", "200"]
    for layer in range(LAST):
        page.press("right")
        found = settled(page, layer + 1)
        assert found["stage"] == f"Layer {layer}"
        counts = [outcome.modality_per_layer[kind][layer] for kind in ("text", "video", "audio")]
        assert found["counts"] == [str(count) for count in counts]
        assert found["costs"][0::2] == [shown["flops"][layer], shown["kv"][layer]]
        assert found["costs"][1::2] == [shown["sums"]["flops"], shown["sums"]["kv"]]
        assert f"fastav+divprune {outcome.tokens_per_layer[layer]}" in found["spoken"]


def test_keys(page: Browser) -> None:
    page.press("end")
    settled(page, LAST)
    page.press("right")
    assert state(page)["at"] == LAST
    page.press("left", "left")
    settled(page, LAST - 2)
    page.press("home")
    settled(page, 0)
    page.press("left")
    assert state(page)["at"] == 0


def test_the_slider_and_the_buttons(page: Browser) -> None:
    page.tap("#layer")  # its middle
    assert state(page)["at"] in (4, 5)
    page.press("home")
    page.tap("#next")
    settled(page, 1)
    page.tap("#back")
    settled(page, 0)
    assert page.run("return document.getElementById('back').disabled")


def test_it_plays_to_the_end_and_again(page: Browser) -> None:
    page.press(" ")
    assert state(page)["play"] == "Pause"
    wait_until(lambda: state(page)["at"] >= 2)
    page.press(" ")
    assert state(page)["play"] == "Play"
    paused = state(page)["at"]
    page.press("end", "left")
    page.tap("#play")
    wait_until(lambda: state(page)["play"] == "Play")
    assert state(page)["at"] == LAST
    # From the end it begins anew, and a key of the page stops it.
    page.tap("#play")
    wait_until(lambda: state(page)["at"] < LAST)
    page.press("home")
    assert state(page)["play"] == "Play"
    assert paused < LAST


def test_dropped_tokens_are_dark_and_kept_ones_as_they_were(
    page: Browser, explored: Explored
) -> None:
    shown = explored.data["methods"][2]
    for index in (0, 5):
        picture = explored.data["pictures"][index]
        place = f".card:nth-child(3) .frame:nth-child({index + 1}) .screen"
        page.press("home")
        before = screen(page, place)
        page.press("end")
        settled(page, LAST)
        after = screen(page, place)
        rows, columns = picture["grid"]
        high, wide = before.shape[0] / rows, before.shape[1] / columns
        for cell, position in enumerate(picture["positions"]):
            top, left = (cell // columns + 0.5) * high, (cell % columns + 0.5) * wide
            part = (slice(int(top) - 4, int(top) + 4), slice(int(left) - 4, int(left) + 4))
            if shown["until"][position] == LAST:
                assert np.abs(after[part] - before[part]).max() <= 2
            else:
                # Darker in every place, the brightest ones too.
                assert after[part].max() < 0.3 * 255
                assert (after[part] <= before[part]).all()


def test_a_phone(page: Browser) -> None:
    page.size(360, 740, phone=True)
    page.open(page.run("return location.href"))
    wide = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide == [360, 360]
    shown = "return [...document.querySelectorAll('.card')].map((card) => card.offsetWidth > 0)"
    assert page.run(shown) == [False, False, True]
    page.tap(".switch label:nth-of-type(1)", touch=True)
    assert page.run(shown) == [True, False, False]
    page.tap("#next", touch=True)
    settled(page, 1)
    page.tap("#play", touch=True)
    wait_until(lambda: state(page)["at"] > 1)
    page.tap("#play", touch=True)
    sizes = page.run(
        "return [...document.querySelectorAll('button')].map((button) => button.offsetHeight)"
    )
    assert min(sizes) >= 44
    # The controls stay in view while the page is scrolled.
    page.run("scrollTo(0, 400)")
    box = page.run("return document.querySelector('.controls').getBoundingClientRect().bottom")
    assert box == pytest.approx(740, abs=1)
    # No text is cut off at the right.
    ends = page.run(
        "return Math.max(...[...document.querySelectorAll('.card.shown *')]"
        ".filter((node) => !node.closest('.wide'))"
        ".map((node) => node.getBoundingClientRect().right))"
    )
    assert ends <= 360


def test_many_methods_fit_a_phone(chromium: Browser, explored: Explored, tmp_path: Path) -> None:
    methods = [
        {**method, "method": f"{method['method']}+late_removal {number}"}
        for number in range(3)
        for method in explored.data["methods"]
    ]
    path = tmp_path / "many.html"
    path.write_text(render({**explored.data, "methods": methods}), encoding="utf-8")
    chromium.size(360, 740, phone=True)
    chromium.open(path.as_uri())
    assert chromium.run("return [document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    # Every method can be seen without scrolling to the right.
    ends = chromium.run(
        "return [...document.querySelectorAll('.switch label')]"
        ".map((label) => label.getBoundingClientRect().right)"
    )
    assert max(ends) <= 360
    chromium.run("document.querySelector('.switch label').scrollIntoView({inline: 'center'})")
    chromium.tap(".switch label:first-of-type", touch=True)
    assert chromium.run("return document.querySelector('.card.shown h2').textContent") == (
        "fastav+late_removal 0"
    )
    # Side by side on a wide screen, as many as there is room for.
    chromium.size(1900, 1000)
    tops = chromium.run(
        "return [...document.querySelectorAll('.card')].map((card) => card.offsetTop)"
    )
    assert len(tops) == 9
    assert max(tops.count(top) for top in tops) >= 3


PHONES = [(360, 740), (320, 640), (740, 360)]


@pytest.mark.parametrize("size", PHONES)
def test_all_is_seen_on_phones(page: Browser, size: tuple[int, int]) -> None:
    page.size(*size, phone=True)
    page.open(page.run("return location.href"))
    assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [size[0]] * 2
    seen = "return document.querySelector('.dense .answer').getClientRects().length"
    assert page.run(seen) == 1
    switch = page.run(
        "const box = document.querySelector('.switch');"
        "const labels = [...box.querySelectorAll('label')];"
        "return [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight,"
        " Math.max(...labels.map((label) => label.getBoundingClientRect().right))]"
    )
    assert switch[:2] == [0, 0]
    assert switch[2] <= size[0]


@pytest.mark.parametrize("size", [*PHONES, (1400, 1000)])
def test_the_focus_covers_nothing(page: Browser, size: tuple[int, int]) -> None:
    """Around the slider's thumb, where it is seen; labels and buttons stay as they are."""
    page.size(*size, phone=size[0] < 1000)
    page.open(page.run("return location.href"))
    others = ("#ticks", "#back", "#play", "#stage")
    page.press("right", "right")
    settled(page, 2)
    before = [screen(page, place) for place in others]
    slider = screen(page, "#layer")
    page.run("document.getElementById('layer').focus()")  # after a key, so that it is seen
    assert page.run("return document.querySelector('#layer:focus-visible') !== null")
    assert np.abs(screen(page, "#layer") - slider).max() > 60
    for place, pixels in zip(others, before, strict=True):
        changed = (np.abs(screen(page, place) - pixels) > 60).any(-1)
        assert changed.mean() < 0.02, place  # edges may be smoothed otherwise


def test_text_of_users_is_text(page: Browser) -> None:
    assert page.run("return document.querySelector('h1').textContent") == QUESTION + HOSTILE
    assert page.run("return document.title").startswith("Which colour is the ladder?</script>")
    answer = page.run("return document.querySelector('#dense-answer').textContent")
    assert answer == ("dense " + HOSTILE).strip()
    verdicts = page.run(
        "return [...document.querySelectorAll('.verdict')].map((node) => node.textContent)"
    )
    assert verdicts == ["≠ differs from dense", "= same as dense", "≠ differs from dense"]
    assert page.run("return document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0


def test_colours_follow_the_system(page: Browser) -> None:
    colours = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(colours)
    page.prefer(prefers_color_scheme="dark")
    assert page.run(colours) != light


def test_motion_only_where_it_is_wanted(page: Browser) -> None:
    moving = "return getComputedStyle(document.querySelector('.bar i')).transitionDuration"
    assert page.run(moving) in ("0s", "")
    page.prefer(prefers_reduced_motion="no-preference")
    assert page.run(moving) == "0.22s"


def test_everything_has_a_name(page: Browser) -> None:
    """For those who hear the page: buttons, the slider, drawings and the switch."""
    page.press("end")
    nameless = page.run(
        "return [...document.querySelectorAll('button, input[type=range], canvas')]"
        ".filter((node) => !node.getAttribute('aria-label')).length"
    )
    assert nameless == 0
    label = page.run("return document.querySelector('.frame canvas').getAttribute('aria-label')")
    assert re.fullmatch(r"Frame at 0\.0 s: \d+ of 16 tokens are seen", label)
    assert page.run("return document.getElementById('live').textContent").startswith("Layer 7: ")
    heads = page.run("return [...document.querySelectorAll('h1, h2')].map((n) => n.tagName)")
    assert heads == ["H1", "H2", "H2", "H2", "H2"]
