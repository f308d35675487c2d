"""One name of another package that this one relies on, and the classes that hold such names.

The classes are imported when they are first asked for: importing this package runs no modeling code
of transformers, and cannot fail in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from fastav_plugin.upstream.releases import missing


@dataclass(frozen=True)
class Contract:
    """One name, and how to see that it is still there.

    Attributes:
        name: what is relied on and where, as it completes "transformers 5.24.0 lacks ...".
        found: whether it is there; an AttributeError or ImportError in it means that it is not.
        package: "transformers" or "torch".
    """

    name: str
    found: Callable[[], bool]
    package: str = "transformers"

    def holds(self) -> bool:
        """Whether the installed release has the name."""
        try:
            return self.found()
        except (AttributeError, ImportError):
            return False


def require(contracts: Iterable[Contract]) -> None:
    """Look names up.

    Raises:
        UnsupportedError: for the first that is not there.
    """
    for contract in contracts:
        if not contract.holds():
            raise missing(contract.name, contract.package)


def code_of(function: Any) -> CodeType:
    """The code of a function below its decorators."""
    code: CodeType = inspect.unwrap(function).__code__
    return code


def has_variable(code: CodeType, name: str) -> bool:
    """Whether a function has a parameter or local variable of this name."""
    return name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


def mentions(code: CodeType, name: str) -> bool:
    """Whether a function's own code holds a name, as an attribute, a global or a string."""
    groups = (item for item in code.co_consts if isinstance(item, (tuple, frozenset)))
    return name in code.co_names or name in code.co_consts or any(name in group for group in groups)


def takes(function: Any, *names: str) -> bool:
    """Whether a function has a parameter of one of these names."""
    return not set(names).isdisjoint(inspect.signature(function).parameters)


def generation_mixin() -> Any:
    """The class that gives models their generate()."""
    from transformers.generation.utils import GenerationMixin

    return GenerationMixin


def model_class() -> Any:
    """The base class of all models."""
    from transformers import PreTrainedModel

    return PreTrainedModel


def output_class() -> Any:
    """What most decoders return."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return BaseModelOutputWithPast


def attention_functions() -> Any:
    """The table of attention functions by name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS
