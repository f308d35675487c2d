"""FastAV and DivPrune token pruning inside an unmodified Hugging Face generate().

cfg = FastAVConfig.for_model(model)
out = model.generate(**inputs, cache=FastAVCache(cfg))  # past_key_values= before transformers 5.24
"""

from fastav_plugin.attach import attach, detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.compatibility import probe as _probe  # noqa: F401  registers itself with overrides
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
    "register_hook",
    "register_models",
    "register_override",
]
