"""save_pretrained of an attached model, which writes its settings beside the weights."""

import functools
import logging
from types import MethodType
from typing import Any

from torch import nn

from fastav_plugin.binding.binding import Binding
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.errors import FastAVError

logger = logging.getLogger(__name__)

_NAME = "save_pretrained"


def watch_saving(model: nn.Module) -> None:
    """Let a model, or a wrapper around one, save the settings it is attached with; only once."""
    kind = type(model)
    if not hasattr(kind, _NAME) or _is_ours(model):
        return
    own = model.__dict__.get(_NAME)

    @functools.wraps(own or getattr(kind, _NAME))
    def save_pretrained(self: Any, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        save = getattr(type(self), _NAME).__get__(self) if own is None else own
        output = save(save_directory, *args, **kwargs)
        binding = Binding.of(unwrap(self))
        attached = None if binding is None else binding.attachments.everywhere
        if attached is not None and kwargs.get("is_main_process", True):
            _save(attached.config, save_directory)
        return output

    save_pretrained.fastav_replaces = own  # type: ignore[attr-defined]
    model.__dict__[_NAME] = MethodType(save_pretrained, model)


def leave_saving(model: nn.Module) -> None:
    """Undo `watch_saving`, if it was called."""
    if _is_ours(model):
        own = model.__dict__.pop(_NAME).__func__.fastav_replaces
        if own is not None:
            model.__dict__[_NAME] = own


def _is_ours(model: nn.Module) -> bool:
    function = getattr(model.__dict__.get(_NAME), "__func__", None)
    return hasattr(function, "fastav_replaces")


def _save(config: Any, directory: Any) -> None:
    """Write the settings; a model that was saved stays saved where that cannot be done."""
    if config is None:
        return
    try:
        config.save_pretrained(directory)
    except (FastAVError, OSError) as error:
        logger.warning(
            "fastav: the model was saved in '%s' without its %s: %s", directory, CONFIG_NAME, error
        )
