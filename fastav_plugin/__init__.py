"""FastAV and DivPrune token pruning inside an unmodified Hugging Face generate().

cfg = FastAVConfig.for_model(model)
out = model.generate(**inputs, cache=FastAVCache(cfg))  # past_key_values= before transformers 5.24
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastav_plugin import upcalls

if TYPE_CHECKING:
    from fastav_plugin.attach import attach, detach, pruned
    from fastav_plugin.cache import FastAVCache
    from fastav_plugin.config import FastAVConfig
    from fastav_plugin.errors import (
        ConfigError,
        FastAVError,
        HookError,
        StateError,
        TokenMapError,
        UnsupportedError,
    )
    from fastav_plugin.hooks import LayerHook, LayerHookList, LayerView, register_hook
    from fastav_plugin.model_overrides import register_override
    from fastav_plugin.model_overrides.own_models.registry import register_models
    from fastav_plugin.report import PruningReport
    from fastav_plugin.tokens import Modality, TokenMap

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "FastAVCache",
    "FastAVConfig",
    "FastAVError",
    "HookError",
    "LayerHook",
    "LayerHookList",
    "LayerView",
    "Modality",
    "PruningReport",
    "StateError",
    "TokenMap",
    "TokenMapError",
    "UnsupportedError",
    "attach",
    "detach",
    "pruned",
    "register_hook",
    "register_models",
    "register_override",
]

#: The module of each public name, imported when the name is first asked for (PEP 562).
_HOMES = {
    name: f"fastav_plugin.{module}"
    for module, names in {
        "attach": ("attach", "detach", "pruned"),
        "cache": ("FastAVCache",),
        "config": ("FastAVConfig",),
        "errors": (
            *("ConfigError", "FastAVError", "HookError"),
            *("StateError", "TokenMapError", "UnsupportedError"),
        ),
        "hooks": ("LayerHook", "LayerHookList", "LayerView", "register_hook"),
        "model_overrides": ("register_override",),
        "model_overrides.own_models.registry": ("register_models",),
        "report": ("PruningReport",),
        "tokens": ("Modality", "TokenMap"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `fastav_plugin.attach` the function: importing its module would put that there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "attach" and isinstance(value, ModuleType):
            value = value.attach
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
upcalls.provide(
    resolve_config=lambda *given, **how: import_module(
        "fastav_plugin.settings.resolution"
    ).resolve_config(*given, **how),
    check_method=lambda name: import_module("fastav_plugin.hooks.registry").check_method(name),
    probe=lambda model: import_module("fastav_plugin.compatibility.probe").probe(model),
)
