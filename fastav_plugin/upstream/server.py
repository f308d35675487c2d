"""transformers' own OpenAI-compatible server, looked at when it is started."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from transformers.utils import import_utils

from fastav_plugin.upstream.contract import Contract, code_of, mentions
from fastav_plugin.upstream.releases import missing

#: Method of the server's ModelManager that hands out models, and its first parameters.
_LOADER = "load_model_and_processor"
_PARAMETERS = ["self", "model_id_and_revision"]


def is_installed() -> bool:
    """Whether the packages that the server needs are there."""
    return bool(import_utils.is_serve_available())


def reads_video() -> bool:
    """Whether the server can read messages with video."""
    return bool(import_utils.is_torchcodec_usable(decode="video"))


def check_server() -> None:
    """Make sure that the server hands out its models as it is known to.

    Raises:
        UnsupportedError: it differs; nothing would be pruned.
    """
    for contract in CONTRACTS:
        if not contract.holds():
            raise missing(contract.name)


def loader() -> Callable[..., Any]:
    """What the server loads models with: (manager, name, ...) -> (model, processor)."""
    found: Callable[..., Any] = getattr(_manager(), _LOADER)
    return found


def set_loader(function: Callable[..., Any]) -> None:
    """Have the server load models with another function."""
    setattr(_manager(), _LOADER, function)


def has_one_model(manager: Any) -> bool:
    """Whether a server was started for one model, which it loads at start."""
    return getattr(manager, "force_model", None) is not None


def command() -> Any:
    """The class behind `transformers serve`, whose __init__ takes its options and runs it."""
    from transformers.cli.serve import Serve

    return Serve


def _manager() -> Any:
    from transformers.cli.serving.model_manager import ModelManager

    return ModelManager


def _handler() -> Any:
    from transformers.cli.serving.utils import BaseHandler

    return BaseHandler


CONTRACTS = (
    Contract(
        f"the method ModelManager.{_LOADER}({', '.join(_PARAMETERS[1:])}, ...) of its server",
        lambda: list(inspect.signature(loader()).parameters)[: len(_PARAMETERS)] == _PARAMETERS,
    ),
    Contract(
        f"the call of {_LOADER}() in the server's BaseHandler._resolve_model",
        lambda: mentions(code_of(_handler()._resolve_model), _LOADER),
    ),
    Contract(
        "the attribute `force_model` of the server's ModelManager",
        lambda: mentions(code_of(_manager().__init__), "force_model"),
    ),
    Contract("transformers.cli.serve.Serve", lambda: command() is not None),
)
