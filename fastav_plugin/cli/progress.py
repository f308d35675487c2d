"""Progress on stderr: a bar on a terminal, elsewhere a line now and then."""

import importlib
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastav_plugin.cli.console import REMARKS
from fastav_plugin.cli.tables.layout import fill
from fastav_plugin.media.files import logger as media_logger

#: Seconds until the first line, which short work does not take, and between two lines.
FIRST, EVERY = 2.0, 30.0
#: Columns that are kept for figures beside a bar, and those that a bar needs to say something.
_FIGURES, _BAR = 50, 12


class Work:
    """How much of something is done; called with the name of each step after it.

    Args:
        title: what is done, such as "calibrate".
        total: number of steps, None where it is not known.
        unit: what the steps are, such as "samples".
    """

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total = title, total
        self.step = ""
        self._unit = unit
        self._steps, self._part, self._within = 0, 0.0, ""
        self._weights: list[float] | None = None
        self._start = time.monotonic()
        #: Seconds and steps so far, as far back as the speed is looked at.
        self._past: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        #: Columns that the figures have taken so far: a bar beside them keeps its width.
        self.columns = _FIGURES

    def __call__(self, step: str) -> None:
        """Count a step."""
        self.step = step
        self._steps, self._part, self._within = self._steps + 1, 0.0, ""
        self._past.append((self._elapsed, self.done))

    def part(self, done: int, of: int, unit: str = "parts") -> None:
        """Count what is done of the step that is under way, `of` parts in all."""
        self._part = min(done / of, 1.0)
        self._within = f" and {done} of {of} {unit}" if 0 < done < of else ""
        self._past.append((self._elapsed, self.done))

    def weigh(self, weights: Sequence[float]) -> None:
        """Count steps by what they cost from now on: one number for each of `total`."""
        self._weights = list(weights)
        self.begin()

    def begin(self) -> None:
        """Forget the speed so far: what is slower or faster than a step is over."""
        self._past = deque([(self._elapsed, self.done)])

    @property
    def done(self) -> float:
        """Steps with the part that is done of the next, or what they cost."""
        if self._weights is None:
            return self._steps + self._part
        return sum(self._weights[: self._steps]) + self._part * sum(
            self._weights[self._steps : self._steps + 1]
        )

    @property
    def whole(self) -> float | None:
        """All that is to be done, as `done` counts."""
        return self.total if self._weights is None else sum(self._weights)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def __str__(self) -> str:
        """'5 of 12 samples, 0:33, about 1:10 left', as far as it is known."""
        return self.figures(self._within)

    def figures(self, within: str = "") -> str:
        """The same, with or without what is done of the step that is under way."""
        steps = f"{self._steps} of {self.total} {self._unit}{within}"
        parts = [] if self.total is None else [steps]
        parts.append(_clock(self._elapsed))
        left = self._left()
        if left is not None and round(left) > 0:
            parts.append(f"about {_clock(left)} left")
        return ", ".join(parts)

    def _left(self) -> float | None:
        """Seconds at the speed of the second half of the time so far; None where none is known.

        Steps differ: what an earlier run measured takes no time, and a search gets faster.
        """
        now, past = self._elapsed, self._past
        while len(past) > 1 and past[1][0] <= now / 2:
            past.popleft()
        before, done = past[0]
        if self.whole is None or self.done <= done or self.done >= self.whole or now <= before:
            return None
        return (self.whole - self.done) * (now - before) / (self.done - done)


def _clock(seconds: float) -> str:
    """0:33, 12:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


#: What is shown at present; work within it shows as a step of it.
_shown: list[Work] = []


@contextmanager
def progress(title: str, total: int | None, unit: str = "steps") -> Iterator[Work]:
    """Show on stderr how far the work in the block is: a bar on a terminal, gone at the end.

    Elsewhere a line is written after `FIRST` seconds, and then every `EVERY` seconds. What the
    reader of media remarks in the block follows as notes, unless it ends with an error.

    Yields what to call with a short description after each of `total` steps, if they are known.
    """
    work = Work(title, total, unit)
    _silence_transformers()
    if _shown:
        _shown[0].step = title
        yield work
        _shown[0].begin()
        return
    media_logger.addHandler(REMARKS)
    _shown.append(work)
    try:
        with _bar(work) if _is_terminal() else _lines(work, sys.stderr):
            yield work
    finally:
        _shown.remove(work)
        media_logger.removeHandler(REMARKS)
    REMARKS.show()


def load_libraries() -> None:
    """Import what takes seconds to import, and show that something happens."""
    with progress("starting", None):
        importlib.import_module("fastav_plugin.attach")


def _silence_transformers() -> None:
    """Show no bars of transformers, which would mix with ours; it is imported before it has any."""
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _is_terminal() -> bool:
    return sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal


@contextmanager
def _bar(work: Work) -> Iterator[None]:
    """A bar that moves with the work."""
    console = Console(stderr=True)
    # stdout may be a file: what a command writes there must not go to the terminal instead.
    live = Live(
        get_renderable=lambda: _row(work, console.width),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
    try:
        with live:
            yield
    finally:
        live.stop()  # Ctrl-C may come while it starts


def _row(work: Work, width: int) -> RenderableType:
    """Title, bar and figures in one line of a terminal; what has no room is left out.

    First the bar goes, then the title, then the part of a step. The figures are always whole: in
    a terminal that is still too narrow they take several lines.
    """
    figures, title = str(work), work.title
    work.columns = max(work.columns, len(figures))
    rest = width - work.columns - 2
    if work.step and len(title) + len(work.step) + 2 <= rest - _BAR:
        title = f"{title}: {work.step}"
    if (room := rest - len(title)) >= _BAR:
        row = Table.grid(padding=(0, 1))
        row.add_row(
            title,
            ProgressBar(work.whole, work.done, min(40, room), pulse=not work.total),
            Text(figures, no_wrap=True),
        )
        return row
    for line in (f"{title} {figures}", figures, f"{title} {work.figures()}"):
        if len(line) <= width:
            return Text(line)
    return Text(fill(work.figures(), width))


@contextmanager
def _lines(work: Work, stream: TextIO) -> Iterator[None]:
    """A line every now and then, from a thread of its own."""
    over = threading.Event()

    def write() -> None:
        wait = FIRST
        while not over.wait(wait):
            wait = EVERY
            try:
                print(f"{work.title}: {work}", file=stream, flush=True)
            except (OSError, ValueError):  # nobody reads it any more
                return

    thread = threading.Thread(target=write, name="fastav-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
