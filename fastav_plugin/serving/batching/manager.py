"""What transformers' server gives its requests to: a manager that decodes them together."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.errors import FastAVError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.report import PruningReport
from fastav_plugin.serving.account import Account
from fastav_plugin.serving.batching.loop import BatchLimits, BatchLoop
from fastav_plugin.serving.batching.observer import NO_OBSERVER, ModelObserver
from fastav_plugin.serving.batching.request import Request, is_batched
from fastav_plugin.serving.exchange import LeftError, current_exchange
from fastav_plugin.serving.request_body import current_body
from fastav_plugin.serving.request_settings import Served
from fastav_plugin.upstream import server


@functools.cache
def manager_class() -> Any:
    """The class of managers that decode requests in batches, below the server's own."""
    stock = server.generate_manager()

    class BatchManager(stock):  # type: ignore[misc, valid-type]
        """Answers the requests of one model.

        Args:
            limits: of its loop.
            served: finds how a model is pruned; None where it is not batched.
            observer: of its loop.
        """

        def __init__(
            self,
            limits: BatchLimits,
            served: Callable[[Any], Served | None],
            observer: ModelObserver = NO_OBSERVER,
        ) -> None:
            self.loop = BatchLoop(limits, observer)
            self._served = served
            server.run_on(self, self.loop)

        def generate_streaming(
            self,
            model: Any,
            processor: Any,
            inputs: Any,
            gen_config: Any,
            request_id: str,
            response_parser: Any = None,
        ) -> tuple[Any, Any]:
            """As the server's own: a queue of texts, and what counts and cancels."""
            served = self._of(model, gen_config)
            if served is None:
                return super().generate_streaming(  # type: ignore[no-any-return]
                    model, processor, inputs, gen_config, request_id, response_parser
                )
            loop = asyncio.get_running_loop()
            queue: asyncio.Queue[Any] = asyncio.Queue()
            streamer = server.text_streamer(processor, loop, queue, response_parser)
            exchange = current_exchange()

            def on_end(tokens: Tensor | None, error: Exception | None) -> None:
                exchange.end(error)
                if error is None:
                    streamer.end()
                elif server.is_cancelled(error):
                    loop.call_soon_threadsafe(queue.put_nowait, None)
                else:
                    exchange.refusal = error if isinstance(error, FastAVError) else None
                    item = server.stream_error(str(error))
                    loop.call_soon_threadsafe(queue.put_nowait, item)

            self._ask(model, processor, inputs, gen_config, served, streamer, on_end)
            return exchange.watch(queue), streamer

        async def generate_non_streaming(
            self, model: Any, processor: Any, inputs: Any, gen_config: Any, request_id: str
        ) -> tuple[str, int, Tensor]:
            """As the server's own: text, prompt length and new tokens."""
            served = self._of(model, gen_config)
            if served is None:
                return await super().generate_non_streaming(  # type: ignore[no-any-return]
                    model, processor, inputs, gen_config, request_id
                )
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Tensor] = loop.create_future()
            left = _Left()

            def on_end(tokens: Tensor | None, error: Exception | None) -> None:
                loop.call_soon_threadsafe(_settle, answer, tokens, error)

            self._ask(model, processor, inputs, gen_config, served, left, on_end)
            try:
                tokens = await answer
            finally:
                left.gone = True  # of no matter once there is an answer
            text = processor.decode(tokens, skip_special_tokens=True)
            return text, inputs["input_ids"].shape[-1], tokens

        def _of(self, model: Any, gen_config: Any) -> Served | None:
            served = self._served(model)
            # One that can speak has a generate() of its own around that of its text model.
            if served is None or hasattr(model, "has_talker") or not is_batched(gen_config):
                return None
            return served

        def _ask(
            self,
            model: Any,
            processor: Any,
            inputs: Any,
            gen_config: Any,
            served: Served,
            streamer: Any,
            on_end: Callable[[Tensor | None, Exception | None], None],
        ) -> None:
            exchange, seed = current_exchange(), current_body.get({}).get("seed")
            config = served.config_of(model, exchange.settings)
            cuts = bool(method_hooks(config))

            def tell(report: PruningReport) -> None:
                exchange.account = Account.of(report, inputs["input_ids"].shape[-1])

            def on_report(report: PruningReport) -> None:
                tell(report)
                served.on_report(report if cuts else None)

            request = Request(
                inputs=dict(inputs),
                generation_config=gen_config,
                tokenizer=processor,
                config=config,
                streamer=streamer,
                on_report=on_report,
                on_end=on_end,
                on_prefill=tell,
                seed=None if seed is None else int(seed),
            )
            self.loop.ask(unwrap(model), request)

        def stop(self) -> None:
            """End the thread once its requests are answered."""
            self.loop.stop()

    return BatchManager


class _Left:
    """Ends a request that nobody waits for any longer."""

    gone = False

    def put(self, tokens: Tensor) -> None:
        """As of a streamer."""
        if self.gone:
            raise LeftError

    def end(self) -> None:
        """As of a streamer."""


def _settle(answer: Any, tokens: Tensor | None, error: Exception | None) -> None:
    if answer.done():  # its task was cancelled
        return
    if error is None:
        answer.set_result(tokens)
    else:
        answer.set_exception(error)
