"""Requests that are answered by generate() itself, one after the other.

Those are all of them without batches, and with batches those that no batch can answer. The
server's manager is given a model that stands for its own: its generate() prunes as the request asks
and says what happened.
"""

import functools
from collections.abc import Callable
from typing import Any

from fastav_plugin.attach import pruning
from fastav_plugin.binding.attachment import running
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError
from fastav_plugin.report import PruningReport
from fastav_plugin.serving.account import Account
from fastav_plugin.serving.exchange import Exchange, current_exchange
from fastav_plugin.serving.request_settings import Served


class Sequential:
    """Wraps the methods of a manager that run generate().

    Args:
        served: finds how a model is pruned; None for one that is not.
    """

    def __init__(self, served: Callable[[Any], Served | None]) -> None:
        self._served = served

    def streaming(self, start: Callable[..., Any]) -> Callable[..., Any]:
        """A method that starts a stream, whose request waits for the first item of it."""

        @functools.wraps(start)
        def generate_streaming(manager: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = current_exchange()
            queue, streamer = start(manager, self._standing_for(model, exchange), *args, **kwargs)
            return exchange.watch(queue), streamer

        return generate_streaming

    def answering(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """A coroutine that returns a whole answer."""

        @functools.wraps(answer)
        async def generate_non_streaming(
            manager: Any, model: Any, *args: Any, **kwargs: Any
        ) -> Any:
            model = self._standing_for(model, current_exchange())
            return await answer(manager, model, *args, **kwargs)

        return generate_non_streaming

    def _standing_for(self, model: Any, exchange: Exchange) -> Any:
        served = self._served(model)
        if served is None:
            return model
        return _Model(model, served, served.config_of(model, exchange.settings), exchange)


class _Model:
    """A model whose generate() is that of one request."""

    def __init__(
        self, model: Any, served: Served, config: FastAVConfig, exchange: Exchange
    ) -> None:
        self._model, self._served = model, served
        self._config, self._exchange = config, exchange
        self._prompt_tokens = 0
        served.observer.alone(waiting=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own, in the thread of the model; its end is that of a stream."""
        self._prompt_tokens = kwargs["input_ids"].shape[-1]
        streamed = kwargs.get("streamer") is not None
        if streamed:
            kwargs["streamer"] = _Streamer(kwargs["streamer"], self._tell)
        self._served.observer.alone(waiting=-1, running=1)
        error: Exception | None = None
        try:
            with pruning(self._model, self._config, self._on_report):
                return self._model.generate(*args, **kwargs)
        except Exception as raised:
            error = raised
            if isinstance(error, FastAVError):
                self._exchange.refusal = error
            raise
        finally:
            self._served.observer.alone(running=-1)
            if streamed:
                self._exchange.end(error)

    def _tell(self, report: PruningReport | None) -> None:
        self._exchange.account = Account.of(report, self._prompt_tokens)

    def _on_report(self, report: PruningReport | None) -> None:
        self._tell(report)
        self._served.observer.reported(report)
        self._served.on_report(report)


class _Streamer:
    """A streamer that tells the report of the prompt before the first token."""

    def __init__(self, streamer: Any, tell: Callable[[PruningReport | None], None]) -> None:
        self._streamer, self._tell = streamer, tell
        self._puts = 0

    def put(self, tokens: Any) -> None:
        """As of the streamer; the prompt comes first."""
        self._puts += 1
        if self._puts == 2:
            call = running.get()
            made = [] if call is None else call.made
            self._tell(made[-1].report() if made and made[-1].fastav_request.prefilled else None)
        self._streamer.put(tokens)

    def end(self) -> None:
        """As of the streamer."""
        self._streamer.end()
