"""Who is told when the pruner works, e.g. a clock; nobody unless a request has a listener."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from fastav_plugin.pruning.observer import Observer


class PruningListener(Protocol):
    """Told when the pruner works, e.g. to take its time.

    `part` is "selection" (hooks choose), "scoring" (attention is read) or "gathering" (the rest:
    arguments are cut). Parts lie inside each other.
    """

    def during(self, part: str) -> AbstractContextManager[Any]:
        """Entered when a part begins, left when it ends."""


class AnnouncedObserver:
    """An observer whose listener is told when it reads attention."""

    def __init__(self, observer: Observer, listener: PruningListener) -> None:
        self._observer, self._listener = observer, listener

    def observe(self, *arguments: Any) -> None:
        """Arguments as of `Observer.observe`."""
        with self._listener.during("scoring"):
            self._observer.observe(*arguments)
