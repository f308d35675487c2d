"""The media of a chat, read by this package's reader in place of transformers' loaders.

The server gives the messages of a request to its processor's `apply_chat_template`, with the
address of each medium. `MessageMedia` wraps that method of the processors it is given: media are
read first, as `fastav generate` reads them, and stand in the messages as pictures, frames that are
sampled already and samples of sound, which transformers hands to the processor as they are.

The server calls it on its event loop. So that it answers others while media are downloaded and
decoded, a handler is left at that call and called again once a thread has read them.
"""

import asyncio
import copy
import functools
import logging
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from fastav_plugin.media.files import reading_for
from fastav_plugin.model_overrides.own_models.registry import own_model
from fastav_plugin.serving.chats import Chat, OwnChat, takes
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.request_body import check_body, check_kinds

#: Requests whose media are read at a time: each may hold as many bytes as the policy allows.
THREADS = 4


@dataclass
class _Request:
    """One request to a handler.

    Attributes:
        body: what it asks.
        chat: its chat once the media were read.
        logged: what the handler logged of it, which is called twice.
    """

    body: Mapping[str, Any]
    chat: Chat | None = None
    logged: set[str] = field(default_factory=set)


class _Unread(Exception):
    """A handler came to a chat whose media were not read."""

    def __init__(self, chat: Chat) -> None:
        super().__init__("The media of the chat were not read.")
        self.chat = chat


#: The request that is handled in this context; None where it is read at once.
_request: ContextVar[_Request | None] = ContextVar("fastav_request", default=None)


class MessageMedia:
    """Wraps `apply_chat_template` of processors, so that this package reads their media.

    Args:
        policy: what requests may name.
    """

    def __init__(self, policy: MediaPolicy) -> None:
        self._policy = policy
        self._wrapped: weakref.WeakSet[Any] = weakref.WeakSet()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fastav-media")

    def wrap(self, processor: Any, config: Any) -> None:
        """Read the media of a processor's chats from now on; one of text alone stays as it is.

        Args:
            processor: of the model.
            config: of the model.
        """
        if processor in self._wrapped or not takes(processor):
            return
        stock = processor.apply_chat_template
        kind = Chat if own_model(config) is None else OwnChat

        @functools.wraps(stock)
        def apply_chat_template(conversation: Any, **arguments: Any) -> Any:
            if not arguments.get("tokenize"):
                return stock(conversation, **arguments)
            request = _request.get()
            if request is not None and kind is Chat:  # the others say themselves what they take
                check_kinds(request.body, takes(processor), type(processor).__name__)
            read = None if request is None else request.chat
            if read is not None and read.conversation == conversation:
                return read.inputs()
            chat = kind(processor, self._policy, stock, conversation, arguments)
            if request is not None and chat.names_media:
                raise _Unread(chat)
            chat.read()
            return chat.inputs()

        vars(processor)["apply_chat_template"] = apply_chat_template
        self._wrapped.add(processor)

    def aside(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """A handler's coroutine (handler, body, id) that has media read in a thread."""

        @functools.wraps(handle)
        async def handle_request(handler: Any, body: Any, request_id: str) -> Any:
            check_body(body)
            request = _Request(body)
            context = _request.set(request)
            try:
                try:
                    # A handler changes the body that it is given.
                    return await handle(handler, copy.deepcopy(body), request_id)
                except _Unread as unread:
                    chat = unread.chat

                def read() -> None:
                    with reading_for(f"fastav: request {request_id}"):
                        chat.read()

                await asyncio.get_running_loop().run_in_executor(self._threads, read)
                request.chat = chat
                return await handle(handler, body, request_id)
            finally:
                _request.reset(context)

        return handle_request

    @staticmethod
    def log_once(record: logging.LogRecord) -> bool:
        """A filter of a handler's logger: it says the same of a request once."""
        request, line = _request.get(), record.getMessage()
        if request is None:
            return True
        new = line not in request.logged
        request.logged.add(line)
        return new

    def close(self) -> None:
        """Leave every processor as it was."""
        for processor in self._wrapped:
            del vars(processor)["apply_chat_template"]
        self._wrapped.clear()
        self._threads.shutdown()
