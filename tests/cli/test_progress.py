"""Progress on stderr: a bar on a real terminal, lines elsewhere, nothing on stdout."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from fastav_plugin.cli import progress as shown
from fastav_plugin.cli.progress import Work, progress
from tests.support.screen import on_screen


class Clock:
    """The time of a test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shown, "time", clock)
    return clock


def work(clock: Clock, total: int | None, *seconds: float) -> Work:
    """Steps that take so many seconds each."""
    made = Work("calibrate", total, "samples")
    for each in seconds:
        clock.now += each
        made("step")
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((), "0 of 12 samples, 0:00"),
        ((6, 6, 6, 6), "4 of 12 samples, 0:24, about 0:48 left"),
        ((600, 600, 600), "3 of 12 samples, 30:00, about 1:30:00 left"),
        # Measured by an earlier run.
        ((0, 0, 0, 0, 0, 0, 10, 10), "8 of 12 samples, 0:20, about 0:40 left"),
        # A search that gets faster.
        ((60, 1, 1, 1), "4 of 12 samples, 1:03, about 2:06 left"),
        ((1,) * 12, "12 of 12 samples, 0:12"),
    ],
)
def test_what_is_done_and_how_long_the_rest_takes(
    clock: Clock, seconds: tuple[float, ...], text: str
) -> None:
    assert str(work(clock, 12, *seconds)) == text


def test_work_of_unknown_length_has_its_time_alone(clock: Clock) -> None:
    assert str(work(clock, None, 1, 2)) == "0:03"


def test_a_long_step_moves_by_its_parts(clock: Clock) -> None:
    made = work(clock, 12, 10)
    clock.now += 30
    made.part(83, 234, "settings")
    assert made.done == pytest.approx(1 + 83 / 234)
    assert str(made).startswith("1 of 12 samples and 83 of 234 settings, 0:40, about ")
    made("settings")
    assert made.done == 2
    assert str(made).startswith("2 of 12 samples, 0:40")


def test_the_time_before_the_first_step_is_no_part_of_its_speed(clock: Clock) -> None:
    """As that of loading a model."""
    made = work(clock, 12)
    clock.now += 100
    made.begin()
    clock.now += 5
    made("step")
    assert str(made) == "1 of 12 samples, 1:45, about 0:55 left"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shown, "FIRST", 0.1)
    monkeypatch.setattr(shown, "EVERY", 0.2)
    yield


@pytest.mark.usefixtures("quick")
def test_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("calibrate", 12, "samples") as tick:
        tick("rollout")
        time.sleep(0.7)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("calibrate: 1 of 12 samples, 0:0") for line in lines)


def test_short_work_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 2) as tick:
        tick("one")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("quick")
def test_work_within_work_is_a_step_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("eval", 3, "questions") as tick:
        with progress("loading the model", None):
            assert tick.step == "loading the model"
            time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("eval: 0 of 3 questions") for line in lines)


BAR = """
import time
from fastav_plugin.cli.progress import progress
with progress("calibrate", 100, "samples") as tick:
    for _ in range(34):
        time.sleep(0.03)
        tick("rollout")
    time.sleep(0.5)
print("done")
"""


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_bar_of_a_terminal(columns: int) -> None:
    ended = on_screen(BAR, columns)
    assert ended.status == 0
    frames = [line for line in ended.lines if "34 of 100 samples, 0:0" in line]
    assert frames
    assert all("calibrate" in line and " left" in line for line in frames)
    assert max(map(len, ended.lines)) <= columns
    assert any("━" in line for line in frames) == (columns > 60)
    assert any("calibrate: rollout" in line for line in frames) == (columns >= 100)
    # The bar is gone at the end.
    assert ended.screen == ["done"]


INTERRUPTED = """
import time
from rich.live import Live
from fastav_plugin.cli.progress import progress
stock = Live.refresh
def refresh(live):
    Live.refresh = stock
    stock(live)
    raise KeyboardInterrupt
Live.refresh = refresh
try:
    with progress("starting", None):
        pass
except KeyboardInterrupt:
    print("Interrupted.")
    time.sleep(0.5)
"""


def test_ctrl_c_while_the_bar_starts_clears_it() -> None:
    ended = on_screen(INTERRUPTED, 80)
    assert any("starting" in line for line in ended.lines)
    assert ended.screen == ["Interrupted."]


def drawn(made: Work, columns: int) -> str:
    """What a terminal of so many columns shows of it."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(shown._row(made, columns))
    return captured.get()


@pytest.mark.parametrize("columns", range(20, 141))
@pytest.mark.parametrize("within", [True, False])
def test_no_figure_is_cut(clock: Clock, columns: int, within: bool) -> None:
    made = work(clock, 30, *[2000.0] * 10)
    clock.now += 1000
    if within:
        made.part(38, 234, "settings")
    row = drawn(made, columns)
    assert max(map(len, row.splitlines())) <= columns
    said = " ".join(row.split())
    # What is left out goes whole, in this order: the bar, the title, the part of the step.
    assert made.figures() in said or str(made) in said
    assert ("settings" in said) == (within and columns >= len(str(made)))
    if "━" in said:
        assert said.startswith("calibrate")
        assert str(made) in said
    if columns >= len(f"calibrate {made}"):
        assert said.startswith("calibrate")
    assert ("━" in said) == (columns >= max(50, len(str(made))) + len("calibrate") + 14)


def test_a_bar_keeps_its_width_from_step_to_step(clock: Clock) -> None:
    made = work(clock, 30, *[2.0] * 10)
    clock.now += 1
    made.part(138, 234, "settings")
    first = drawn(made, 100).count("━")
    made("step")
    assert drawn(made, 100).count("━") == first


SETTINGS = """
import time
from fastav_plugin.cli.progress import progress
with progress("calibrate", 30, "samples") as tick:
    for _ in range(10):
        time.sleep(0.1)
        tick("rollout")
    tick.part(38, 234, "settings")
    time.sleep(0.5)
"""


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_the_figures_are_whole_in_a_terminal(columns: int) -> None:
    ended = on_screen(SETTINGS, columns)
    assert ended.status == 0
    assert ended.screen == []
    assert max(map(len, ended.lines)) <= columns
    frames = [line.rstrip() for line in ended.lines if "10 of 30 samples" in line]
    assert frames
    assert all(line.endswith(" left") for line in frames)
    assert any("and 38 of 234 settings" in line for line in frames) == (columns > 62)


def test_the_bar_in_letters_alone() -> None:
    ended = on_screen(BAR, 100, PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert ended.status == 0
    assert ended.screen == ["done"]


def test_a_terminal_that_cannot_move_gets_lines() -> None:
    ended = on_screen(BAR.replace("0.5", "3"), 80, TERM="dumb")
    assert ended.status == 0
    assert [line for line in ended.screen if line.startswith("calibrate: 34 of 100 samples")]
    assert ended.screen[-1] == "done"


def test_steps_of_known_cost(clock: Clock) -> None:
    """As those of a calibration: one that tries 300 settings, then one that tries 10."""
    made = work(clock, 3, 1)
    made.weigh([1, 300, 10])
    clock.now += 30
    made.part(150, 300, "settings")
    assert (made.done, made.whole) == (151, 311)
    assert str(made) == "1 of 3 samples and 150 of 300 settings, 0:31, about 0:32 left"
    clock.now += 30
    made("settings")
    assert str(made).endswith("about 0:02 left")
