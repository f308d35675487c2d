"""The thread of one model: takes requests in, decodes all of them together, lets them go."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fastav_plugin.errors import FastAVError
from fastav_plugin.serving.batching.admission import KvBudget
from fastav_plugin.serving.batching.batch import Batch
from fastav_plugin.serving.batching.decoding import Decoder
from fastav_plugin.serving.batching.observer import NO_OBSERVER, ModelObserver
from fastav_plugin.serving.batching.prefill import prefill
from fastav_plugin.serving.batching.request import Request, Row

logger = logging.getLogger(__name__)


class BusyError(FastAVError):
    """As many requests wait as may."""


@dataclass(frozen=True)
class BatchLimits:
    """How much is done at once.

    Attributes:
        max_batch: requests that are decoded together.
        prefill_per_step: prompts that are prefilled between two steps of running requests.
        max_waiting: requests that wait for a place; None for any number.
        kv_bytes: of keys and values of all that run, at their longest; None for any number.
    """

    max_batch: int = 32
    prefill_per_step: int = 1
    max_waiting: int | None = None
    kv_bytes: int | None = None


class BatchLoop:
    """Answers the requests of one model in a thread of its own.

    What a batch cannot do runs in the same thread, between two steps: `submit` and `async_submit`
    take functions as the server's own inference thread does.

    Args:
        limits: how much is done at once.
        observer: hears of the work.
    """

    def __init__(self, limits: BatchLimits, observer: ModelObserver = NO_OBSERVER) -> None:
        self._limits, self._observer = limits, observer
        self._budget = KvBudget(limits.kv_bytes)
        self._waiting: deque[tuple[nn.Module, Request]] = deque()
        self._functions: deque[Callable[[], None]] = deque()
        self._batches: list[Batch] = []
        self._decoder: Decoder | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="fastav-batch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Requests that are being decoded."""
        return sum(len(batch.rows) for batch in self._batches)

    @property
    def waiting(self) -> int:
        """Requests that were not begun."""
        return len(self._waiting)

    def ask(self, head: nn.Module, request: Request) -> None:
        """Answer a request as soon as there is a place for it.

        Raises:
            BusyError: too many wait already.
        """
        with self._changed:
            most = self._limits.max_waiting
            if most is not None and len(self._waiting) >= most:
                raise BusyError(f"{most} requests wait already. Try again later.")
            self._waiting.append((head, request))
            self._observer.waits(len(self._waiting))
            self._changed.notify()

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in the thread of the model, between two steps."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        with self._changed:
            self._functions.append(call)
            self._changed.notify()
        return future

    def async_submit(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """As `submit`, for the event loop that runs."""
        return asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def stop(self) -> None:
        """End the thread once all requests that it has are answered."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while self._wait():
            self._turn()

    def _turn(self) -> None:
        """Do what waits, and one step; nothing of a model is held once nobody asks it."""
        for _ in range(len(self._functions)):
            self._functions.popleft()()
        self._take_in()
        for batch in self._batches:
            self._step(batch)
        self._batches = [batch for batch in self._batches if batch.rows]
        if not self._batches:
            self._decoder = None
        self._observer.waits(len(self._waiting))
        self._observer.holds(self.running, sum(batch.kv_bytes for batch in self._batches))

    def _wait(self) -> bool:
        """Until there is something to do; False if there never will be."""
        with self._changed:
            while not (self._batches or self._waiting or self._functions):
                if self._stopped:
                    return False
                self._changed.wait()
        return True

    def _take_in(self) -> None:
        """Prefill as many of those that wait as there is room and time for."""
        most = self._limits.prefill_per_step if self.running else self._limits.max_batch
        for _ in range(most):
            if not self._waiting or self.running >= self._limits.max_batch:
                return
            head, request = self._waiting[0]
            try:
                if not self._budget.admits(head, request):
                    return
            except Exception as error:
                self._waiting.popleft()
                request.on_end(None, error)
                continue
            self._waiting.popleft()
            self._observer.waits(len(self._waiting))
            began = time.monotonic()
            try:
                row, logits, cache = prefill(head, request)
                self._observer.prefilled(time.monotonic() - began)
                self._observer.reported(row.report)
                if request.on_prefill is not None:
                    request.on_prefill(row.report)
            except Exception as error:
                self._budget.release(request)
                request.on_end(None, error)
                continue
            if self._goes_on(row, logits):
                self._batch(head, request).join([row], [cache])

    def _batch(self, head: nn.Module, request: Request) -> Batch:
        """Where the requests of a config are."""
        for batch in self._batches:
            if batch.config == request.config:
                return batch
        if self._decoder is None or self._decoder.head is not head:
            self._decoder = Decoder(head)
        self._batches.append(Batch(self._decoder, request.config))
        return self._batches[-1]

    def _step(self, batch: Batch) -> None:
        began = time.monotonic()
        try:
            logits = batch.step()
            likeliest = logits.argmax(dim=-1).tolist()
            self._observer.stepped(time.monotonic() - began)
        except Exception as error:
            logger.exception("A step of %d requests failed.", len(batch.rows))
            for row in batch.rows:
                self._end(row, error)
            batch.keep([])
            return
        staying = [
            place
            for place, row in enumerate(batch.rows)
            if self._goes_on(row, logits[place : place + 1], likeliest[place])
        ]
        batch.keep(staying)

    def _goes_on(self, row: Row, logits: Tensor, likeliest: int | None = None) -> bool:
        """Choose the next token of a row and say it; whether more follow."""
        error = None
        try:
            token = likeliest if row.is_plain and likeliest is not None else row.choose(logits)
            if not row.add(token):
                return True
        except Exception as raised:  # of one request alone: a client that has gone, a processor
            error = raised
        self._end(row, error)
        return False

    def _end(self, row: Row, error: Exception | None) -> None:
        self._budget.release(row.request)
        row.end(error)
