"""Attention implementations: their names in configs, and the functions behind the names."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.contract import Contracts, attention_functions, attribute, takes
from fastav_plugin.upstream.releases import missing

_PUBLIC = "_attn_implementation"
_NAME = "_attn_implementation_internal"
_EAGER = "eager_attention_forward"
_LOOK_UP = "get_interface"

#: Keywords that every attention function is called with, where its model has such.
SCALING = "scaling"
SOFTCAP = "softcap"
#: What it is called with by position.
_POSITIONAL = ["module", "query", "key", "value", "attention_mask"]


def implementation(config: Any) -> str:
    """Name of the attention implementation that a config asks for."""
    return str(attribute(config, _PUBLIC))


def rename(config: Any, name: str) -> None:
    """Ask for another implementation, in this config alone and without checks of the name."""
    object.__setattr__(config, _NAME, name)
    if implementation(config) != name:
        raise missing(_KEPT)


def renamed_copy(config: Any, name: str) -> Any:
    """A shallow copy of a config that asks for another implementation."""
    renamed = copy.copy(config)
    rename(renamed, name)
    return renamed


def register(name: str, function: Callable[..., Any]) -> None:
    """Make an attention function known by name, unless one has the name."""
    functions = attention_functions()
    if name not in functions:
        functions.register(name, function)


def function_of(base: str, module: nn.Module) -> Callable[..., Any]:
    """The stock function of an implementation, looked up anew so that later ones count.

    `base` is its name, `module` the attention that calls it.
    """
    if base != "eager":
        return attention_functions()[base]  # type: ignore[no-any-return]
    # Every modeling file has its own eager function, and a subclass may live in another file.
    function = inspect.unwrap(type(module).forward).__globals__.get(_EAGER)
    if function is None:
        raise UnsupportedError(
            f"{type(module).__name__} has no `{_EAGER}` beside it. Use attn_implementation='sdpa'."
        )
    return function  # type: ignore[no-any-return]


def only_looked_up(source: str) -> bool:
    """Whether an attention class uses the implementation's name only to look the function up."""
    return source.count(_PUBLIC) == source.count(f"{_LOOK_UP}(")


_KEPT = f"the attribute `{_NAME}` of PreTrainedConfig"


def _is_kept() -> bool:
    from transformers import PreTrainedConfig

    config = PreTrainedConfig()
    object.__setattr__(config, _NAME, "fastav_contract")
    return implementation(config) == "fastav_contract"


# transformers' own, whatever was registered under their names since.
def _sdpa() -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward


def _flash() -> Any:
    from transformers.integrations.flash_attention import flash_attention_forward

    return flash_attention_forward


CONTRACTS: Contracts = {
    _KEPT: _is_kept,
    f"the arguments {', '.join(_POSITIONAL)} of attention functions, in this order": lambda: (
        list(inspect.signature(_sdpa()).parameters)[: len(_POSITIONAL)] == _POSITIONAL
    ),
    f"the argument `{SCALING}` of attention functions": lambda: takes(_sdpa(), SCALING),
    f"the argument `{SOFTCAP}` of attention functions": lambda: takes(_flash(), SOFTCAP),
    "the method `register` of ALL_ATTENTION_FUNCTIONS": lambda: takes(
        attention_functions().register, "key", "value"
    ),
    f"the method `{_LOOK_UP}` of ALL_ATTENTION_FUNCTIONS": lambda: hasattr(
        attention_functions(), _LOOK_UP
    ),
}
