"""transformers' own OpenAI-compatible server, looked at when it is started."""

import inspect
from collections.abc import Callable
from typing import Any

from transformers.utils import import_utils

from fastav_plugin.upstream.contract import Contracts, code_of, mentions, require
from fastav_plugin.upstream.releases import check_release, missing

#: Method of the server's ModelManager that hands out models, and its first parameters.
LOADER = "load_model_and_processor"
_PARAMETERS = ["self", "model_id_and_revision"]


def is_installed() -> bool:
    """Whether the packages that the server needs are there."""
    return bool(import_utils.is_serve_available())


def reads_video() -> bool:
    """Whether the server can read messages with video."""
    if not import_utils.is_torchcodec_available():
        return False
    usable = getattr(import_utils, "is_torchcodec_usable", None)
    if usable is not None:
        return bool(usable(decode="video"))
    try:  # before transformers 5.23
        import torchcodec
    except Exception:  # it raises what its shared libraries raise
        return False
    # torchcodec 0.16 and newer can be imported without FFmpeg, and says so.
    return getattr(torchcodec, "ffmpeg_major_version", True) is not None


def check_server() -> None:
    """Make sure that the server hands out its models as it is known to: else nothing is pruned."""
    check_release()
    require(CONTRACTS)


def loader() -> Callable[..., Any]:
    """What the server loads models with: (manager, name, ...) -> (model, processor)."""
    found: Callable[..., Any] = getattr(_manager(), LOADER)
    return found


def set_loader(function: Callable[..., Any]) -> None:
    """Have the server load models with another function."""
    setattr(_manager(), LOADER, function)


def has_one_model(manager: Any) -> bool:
    """Whether a server was started for one model, which it loads at start."""
    return getattr(manager, "force_model", None) is not None


def command() -> Any:
    """The class behind `transformers serve`, whose __init__ takes its options and runs it."""
    check_release()  # of an old one not even the import may work
    try:
        from transformers.cli.serve import Serve
    except ImportError as error:
        raise missing(f"its server, transformers.cli.serve.Serve ({error})") from error
    return Serve


def _manager() -> Any:
    from transformers.cli.serving.model_manager import ModelManager

    return ModelManager


def _handler() -> Any:
    from transformers.cli.serving.utils import BaseHandler

    return BaseHandler


CONTRACTS: Contracts = {
    f"the method ModelManager.{LOADER}({', '.join(_PARAMETERS[1:])}, ...) of its server": lambda: (
        list(inspect.signature(loader()).parameters)[: len(_PARAMETERS)] == _PARAMETERS
    ),
    f"the call of {LOADER}() in the server's BaseHandler._resolve_model": lambda: mentions(
        code_of(_handler()._resolve_model), LOADER
    ),
    "the attribute `force_model` of the server's ModelManager": lambda: mentions(
        code_of(_manager().__init__), "force_model"
    ),
    "transformers.cli.serve.Serve": lambda: command() is not None,
}
