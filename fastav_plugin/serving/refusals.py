"""Refusals as answers of transformers' server: status 400, with the reason where OpenAI's has it.

A request that streams is refused in the same way: its answer begins with the first token, or with
the refusal.
"""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fastav_plugin.errors import FastAVError
from fastav_plugin.serving.request_body import check_settings

#: The streams that the request of this context has started.
_streams: ContextVar[list["_Stream"] | None] = ContextVar("fastav_streams", default=None)


def refusing(handle: Callable[..., Any]) -> Callable[..., Any]:
    """A handler's coroutine whose FastAVError becomes an answer with status 400.

    So do settings of a request that are none. What the server itself refuses keeps its status.
    """
    from fastapi import HTTPException

    @functools.wraps(handle)
    async def handle_request(self: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        streams: list[_Stream] = []
        context = _streams.set(streams)
        try:
            check_settings(body)
            answer = await handle(self, body, *args, **kwargs)
            for stream in streams:
                await stream.begin()
            return answer
        except FastAVError as error:
            return _answer(400, str(error))
        except HTTPException as error:
            return _answer(error.status_code, str(error.detail))
        finally:
            _streams.reset(context)

    return handle_request


def waiting(start: Callable[..., Any]) -> Callable[..., Any]:
    """A manager's method that starts a stream, whose request waits for the first item of it."""

    @functools.wraps(start)
    def generate_streaming(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        streams = _streams.get()
        if streams is None:
            return start(self, model, *args, **kwargs)
        watched = _Watched(model)
        queue, streamer = start(self, watched, *args, **kwargs)
        streams.append(_Stream(queue, watched))
        return streams[-1], streamer

    return generate_streaming


def _answer(status: int, reason: str) -> Any:
    """A body that OpenAI's clients quote in their error, beside the one of transformers' server."""
    from fastapi.responses import JSONResponse

    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": reason, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error, "detail": reason}, status_code=status)


def refused(error: FastAVError) -> Exception:
    """The answer to a request that was refused."""
    from fastapi import HTTPException

    return HTTPException(status_code=400, detail=str(error))


class _Watched:
    """A model whose generate() leaves its refusal here as well."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.refusal: FastAVError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own."""
        try:
            return self._model.generate(*args, **kwargs)
        except FastAVError as error:
            self.refusal = error
            raise


class _Stream:
    """The queue of one stream, whose first item can be waited for."""

    def __init__(self, queue: Any, model: _Watched) -> None:
        self._queue, self._model = queue, model
        self._first: list[Any] = []

    async def begin(self) -> None:
        """Wait for the first item.

        Raises:
            FastAVError: generate() was refused.
        """
        self._first.append(await self._queue.get())
        if self._model.refusal is not None:
            raise self._model.refusal

    async def get(self) -> Any:
        """The next item."""
        return self._first.pop() if self._first else await self._queue.get()

    def get_nowait(self) -> Any:
        """The next item if it is there, as asyncio's queues."""
        return self._first.pop() if self._first else self._queue.get_nowait()
