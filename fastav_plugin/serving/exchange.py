"""One request to a handler of transformers' server, from its body to the end of its answer."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

from fastav_plugin.errors import FastAVError
from fastav_plugin.serving.account import Account
from fastav_plugin.serving.media.policy import MediaError
from fastav_plugin.serving.request_body import UntakenError
from fastav_plugin.upstream import server

#: How a request may end; "left" is one whose client has gone.
Outcome = Literal["answered", "refused", "failed", "left"]


class LeftError(Exception):
    """Ends a request whose client has gone."""


class OutcomeCounter(Protocol):
    """Who hears of the ends of requests, in any thread."""

    def ended(self, model: str, outcome: Outcome) -> None:
        """A request has ended; `model` is "" where none was loaded for it."""

    def refused_media(self, reason: str) -> None:
        """A medium was refused, which refused its request."""


class Exchange:
    """What is known of a request while it is answered.

    Args:
        counter: hears of its end; None for nobody.

    Attributes:
        settings: fields of FastAVConfig that the request sets for itself.
        model: the model's name once it is loaded.
        account: of its pruning once the prompt was prefilled; final once the answer has ended.
        refusal: why its stream has no first item.
        streams: that it has started.
    """

    def __init__(self, counter: OutcomeCounter | None = None) -> None:
        self.settings: Mapping[str, Any] = {}
        self.model = ""
        self.account: Account | None = None
        self.refusal: FastAVError | None = None
        self.streams: list[Stream] = []
        self._counter = counter
        self._lock = threading.Lock()

    def watch(self, queue: Any) -> Any:
        """The queue of a stream, for whose first item this request waits."""
        self.streams.append(Stream(queue, self))
        return self.streams[-1]

    def end(self, error: BaseException | None) -> None:
        """Note the end of the answer, with what ended it early; the first note counts."""
        with self._lock:
            counter, self._counter = self._counter, None
        if counter is None:
            return
        counter.ended(self.model, outcome_of(error))
        if isinstance(error, MediaError | UntakenError):
            counter.refused_media(error.reason)


def outcome_of(error: BaseException | None) -> Outcome:
    """How a request ends that an error ends; None for none."""
    if error is None:
        return "answered"
    if isinstance(error, asyncio.CancelledError | LeftError) or server.is_cancelled(error):
        return "left"
    status = getattr(error, "status_code", 500)  # of what the server itself refuses
    return "refused" if isinstance(error, FastAVError) or status < 500 else "failed"


_current: ContextVar[Exchange | None] = ContextVar("fastav_exchange", default=None)


def current_exchange() -> Exchange:
    """That of this context; outside of any, one that nobody looks at."""
    return _current.get() or Exchange()


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """Make an exchange that of the context while the block runs."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


class Stream:
    """The queue of one stream, whose first token can be waited for."""

    def __init__(self, queue: Any, exchange: Exchange) -> None:
        self._queue, self._exchange = queue, exchange
        self._first: deque[Any] = deque()

    async def begin(self) -> None:
        """Wait for what is known after the prompt, or the end.

        A parser of answers may have put items there before.

        Raises:
            FastAVError: generate() was refused.
        """
        while True:
            item = await self._queue.get()
            self._first.append(item)
            if self._exchange.refusal is not None:
                raise self._exchange.refusal
            if item is None or self._exchange.account or server.is_stream_error(item):
                return

    async def get(self) -> Any:
        """The next item."""
        return self._first.popleft() if self._first else await self._queue.get()

    def get_nowait(self) -> Any:
        """The next item if it is there, as asyncio's queues."""
        return self._first.popleft() if self._first else self._queue.get_nowait()
