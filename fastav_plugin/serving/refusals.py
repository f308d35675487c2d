"""Refusals as answers of transformers' server: status 400, with the reason where OpenAI's has it.

Where too many wait it is 429, which OpenAI's clients try again after a while.

A request that streams is refused in the same way: its answer begins with the first token, or with
the refusal.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fastav_plugin.errors import FastAVError
from fastav_plugin.serving.account import tell
from fastav_plugin.serving.batching.loop import BusyError
from fastav_plugin.serving.exchange import Exchange, OutcomeCounter, exchanging
from fastav_plugin.serving.request_body import check_settings, current_body
from fastav_plugin.serving.request_settings import take_settings

#: Seconds after which a client may try again where too many wait.
RETRY_AFTER = 1


def refusing(
    handle: Callable[..., Any], *, allowed: frozenset[str], counter: OutcomeCounter
) -> Callable[..., Any]:
    """A handler's coroutine whose FastAVError becomes an answer with status 400.

    So do settings of a request that are none. What the server itself refuses keeps its status. An
    answer says what was dropped of its prompt.

    Args:
        handle: the coroutine (handler, body, ...).
        allowed: fields of FastAVConfig that a request may set.
        counter: hears of the ends of requests.
    """

    @functools.wraps(handle)
    async def handle_request(self: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        exchange, given = Exchange(counter), current_body.set(body)
        try:
            with exchanging(exchange):
                check_settings(body)
                body, exchange.settings = take_settings(body, allowed)
                answer = await handle(self, body, *args, **kwargs)
                for stream in exchange.streams:
                    await stream.begin()
        except BaseException as error:
            exchange.end(error)
            refusal = _refusal(error)
            if refusal is None:
                raise
            return refusal
        finally:
            current_body.reset(given)
        if not exchange.streams:
            exchange.end(None)
        return answer if exchange.account is None else tell(answer, exchange.account)

    return handle_request


def _refusal(error: BaseException) -> Any:
    """The answer that an error is; None where it is none of ours and of the server's."""
    from fastapi import HTTPException

    if isinstance(error, BusyError):
        return _answer(429, str(error), {"Retry-After": str(RETRY_AFTER)})
    if isinstance(error, FastAVError):
        return _answer(400, str(error))
    if isinstance(error, HTTPException):
        return _answer(error.status_code, str(error.detail))
    return None


def _answer(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Any:
    """A body that OpenAI's clients quote in their error, beside the one of transformers' server."""
    from fastapi.responses import JSONResponse

    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": reason, "type": kind, "param": None, "code": None}
    body = {"error": error, "detail": reason}
    return JSONResponse(body, status_code=status, headers=headers)


def refused(error: FastAVError) -> Exception:
    """The answer to a request that was refused."""
    from fastapi import HTTPException

    return HTTPException(status_code=400, detail=str(error))
