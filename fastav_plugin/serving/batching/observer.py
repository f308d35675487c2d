"""What a loop says of its work, for whoever counts it."""

from __future__ import annotations

from fastav_plugin.report import PruningReport


class ModelObserver:
    """Hears what happens to the requests of one model, and counts nothing unless a subclass does.

    It is called in any thread and returns at once.
    """

    def reported(self, report: PruningReport | None) -> None:
        """A prompt was prefilled; None where the method cuts nothing and no cache counted it."""

    def prefilled(self, seconds: float) -> None:
        """That took so long in a batch's loop."""

    def stepped(self, seconds: float) -> None:
        """One token of each row of a batch took so long."""

    def waits(self, requests: int) -> None:
        """So many requests wait for a place."""

    def holds(self, requests: int, kv_bytes: int) -> None:
        """So many are decoded, and their caches hold so many bytes of keys and values."""

    def alone(self, *, waiting: int = 0, running: int = 0) -> None:
        """Requests that no batch answers became more by so many, or fewer."""


NO_OBSERVER = ModelObserver()
