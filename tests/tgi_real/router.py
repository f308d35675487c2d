"""TGI's router in small: prefill what is new, concatenate, decode, filter what has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from text_generation_server.pb import generate_pb2 as pb

from tests.tgi_real.requests import Ask
from tests.tgi_real.shards import ShardError


class Server(Protocol):
    """Whatever takes the calls."""

    def call(self, name: str, message: Any) -> list[Any]: ...


@dataclass
class Answer:
    """What a client has received.

    Attributes:
        tokens: generated so far.
        ended: whether the server said so.
        cancelled: whether the client went away before.
        error: the server's message, if there was one.
        text: the server's whole text at the end.
    """

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    cancelled: bool = False
    error: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Arrival:
    """A request on its way.

    Attributes:
        ask: the request.
        step: of the router, at which it comes in.
        leaves_after: tokens after which the client goes away; None: it stays.
    """

    ask: Ask
    step: int = 0
    leaves_after: int | None = None


class Router:
    """Runs requests through a server in the order of calls of TGI's own batching loop.

    Args:
        server: that takes the calls.
        prefill_size: requests in one prefill at most.
        batch_size: requests that decode together at most.
        watch: called after every step with the number of requests that are running.

    Attributes:
        calls: how often each procedure was called.
        joined: decodes that put two batches together.
        again: requests that were sent a second time, because their prefill failed with another's.
        steps: so far.
    """

    def __init__(
        self,
        server: Server,
        *,
        prefill_size: int = 4,
        batch_size: int = 16,
        watch: Callable[[int], None] = lambda running: None,
    ) -> None:
        self.server, self.prefill_size, self.batch_size = server, prefill_size, batch_size
        self.watch = watch
        self.batch_id = 0
        self.answers: dict[int, Answer] = {}
        self.arrivals: dict[int, Arrival] = {}
        self.calls: dict[str, int] = {}
        self.joined = self.again = self.steps = 0

    def run(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        """Serve all requests to their end.

        A failed prefill fails all of its requests, as in TGI; those that came with others are
        sent again alone, as their clients would.
        """
        self.arrivals = dict(enumerate(arrivals, start=1))
        self.answers = {number: Answer() for number in self.arrivals}
        waiting = deque(sorted(self.arrivals, key=lambda number: self.arrivals[number].step))
        again: deque[int] = deque()
        running: set[int] = set()
        cached: Any = None
        while waiting or again or running:
            batches = [cached] if cached is not None else []
            new = self._take(waiting, again, self.steps, self.batch_size - len(running))
            if new:
                batch, failed = self._prefill(new)
                again.extend(failed)
                running |= {number for number in new if not self._over(number)} - set(failed)
                batches += [batch] if batch is not None else []
            cached = None
            if batches:
                cached = self._decode(batches, running)
                running = {number for number in running if not self._over(number)}
            self.watch(len(running))
            self.steps += 1
        return [self.answers[number] for number in self.arrivals]

    def _take(self, waiting: deque[int], again: deque[int], step: int, room: int) -> list[int]:
        if again and room > 0:
            return [again.popleft()]
        new: list[int] = []
        while waiting and len(new) < min(room, self.prefill_size):
            if self.arrivals[waiting[0]].step > step:
                break
            new.append(waiting.popleft())
        return new

    def _over(self, number: int) -> bool:
        answer = self.answers[number]
        return answer.ended or answer.cancelled or answer.error is not None

    def _call(self, name: str, message: Any) -> list[Any]:
        self.calls[name] = self.calls.get(name, 0) + 1
        return self.server.call(name, message)

    def _prefill(self, new: list[int]) -> tuple[Any, list[int]]:
        requests = [self.arrivals[number].ask.message(number) for number in new]
        batch = pb.Batch(id=self.batch_id, requests=requests, size=len(requests))
        self.batch_id += 1
        try:
            found = self._call("Prefill", pb.PrefillRequest(batch=batch))
        except ShardError as error:
            self._call("ClearCache", pb.ClearCacheRequest(id=batch.id))
            if len(new) == 1:
                self.answers[new[0]].error = str(error)
                return None, []
            self.again += len(new)
            return None, new
        return self._receive(found), []

    def _decode(self, batches: list[Any], running: set[int]) -> Any:
        self.joined += len(batches) > 1
        try:
            found = self._call("Decode", pb.DecodeRequest(batches=batches))
        except ShardError as error:
            for batch in batches:
                self._call("ClearCache", pb.ClearCacheRequest(id=batch.id))
            for number in running:
                self.answers[number].error = str(error)
            return None
        return self._receive(found)

    def _receive(self, responses: list[Any]) -> Any:
        """Hand out the tokens of all shards, then drop the requests that have ended."""
        for response in responses:
            for generation in response.generations:
                self._hand_out(generation)
        batches = [r.batch if r.HasField("batch") else None for r in responses]
        assert all(batch == batches[0] for batch in batches), f"shards differ: {batches}"
        batch = batches[0]
        if batch is None:
            return None
        left = [number for number in batch.request_ids if not self._over(number)]
        if len(left) == batch.size:
            return batch
        if not left:
            self._call("ClearCache", pb.ClearCacheRequest(id=batch.id))
            return None
        message = pb.FilterBatchRequest(batch_id=batch.id, request_ids=left)
        return self._call("FilterBatch", message)[0].batch

    def _hand_out(self, generation: Any) -> None:
        answer = self.answers[generation.request_id]
        arrival = self.arrivals[generation.request_id]
        answer.tokens += list(generation.tokens.ids)
        if generation.HasField("generated_text"):
            answer.ended, answer.text = True, generation.generated_text.text
        elif arrival.leaves_after is not None and len(answer.tokens) >= arrival.leaves_after:
            answer.cancelled = True
