"""Pruning in the models of transformers' own OpenAI-compatible server, which stays as it is.

The server's handlers get every model from `ModelManager.load_model_and_processor`. While
`attaching` runs, what that method returns is attached first: the one place where this package
touches the server.
"""

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastav_plugin.attach import attach
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError, UnsupportedError
from fastav_plugin.installation import install_hint
from fastav_plugin.report import PruningReport
from fastav_plugin.upstream import server

MISSING = "Serving needs fastapi, uvicorn and openai."


def check_server() -> None:
    """Raise UnsupportedError if an extra is missing, or the server loads its models another way."""
    if not server.is_installed():
        raise UnsupportedError(f"{MISSING} {install_hint('serve')}")
    server.check_server()


@contextmanager
def attaching(
    make_config: Callable[[Any], FastAVConfig],
    on_report: Callable[[str, PruningReport | None], None],
) -> Iterator[None]:
    """Attach every model that a server started in this block loads.

    Args:
        make_config: the config for a model that was just loaded.
        on_report: called after each generate() with the model's name and its report, as
            `attach` does.

    Raises:
        UnsupportedError: as `check_server`.
    """
    check_server()
    stock = server.loader()
    attached: weakref.WeakSet[Any] = weakref.WeakSet()
    lock = threading.Lock()

    @functools.wraps(stock)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        model, processor = stock(self, *args, **kwargs)
        with lock:
            if model not in attached:
                name = str(getattr(model, "name_or_path", "") or type(model).__name__)
                try:
                    attach(model, make_config(model), on_report=functools.partial(on_report, name))
                except FastAVError as error:
                    raise _for_client(self, error) from error
                attached.add(model)
        return model, processor

    server.set_loader(load)
    try:
        yield
    finally:
        server.set_loader(stock)


def _for_client(manager: Any, error: FastAVError) -> Exception:
    """The error itself at start, where it ends the server; an answer to a later request."""
    if server.has_one_model(manager):
        return error
    from fastapi import HTTPException

    return HTTPException(status_code=400, detail=str(error))
