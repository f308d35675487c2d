"""How names of other packages are looked up, and the classes that hold such names.

The classes are imported when they are first asked for: importing this package runs no modeling code
of transformers, and cannot fail in it.
"""

import inspect
from collections.abc import Callable
from operator import attrgetter
from types import CodeType
from typing import Any

from fastav_plugin.upstream.releases import missing

#: What is relied on and where, as it completes "transformers 5.24.0 lacks ...", and whether it is
#: there; an AttributeError or ImportError means that it is not.
Contracts = dict[str, Callable[[], bool]]


def holds(found: Callable[[], bool]) -> bool:
    """Whether the installed release has the name of one contract."""
    try:
        return found()
    except (AttributeError, ImportError):
        return False


def require(contracts: Contracts, package: str = "transformers") -> None:
    """Raise UnsupportedError for the first name that is not there."""
    for name, found in contracts.items():
        if not holds(found):
            raise missing(name, package)


def attribute(holder: Any, name: str, what: str = "", package: str = "transformers") -> Any:
    """An attribute, or one of an attribute ("a.b"); UnsupportedError with `what` if it is gone."""
    try:
        return attrgetter(name)(holder)
    except AttributeError:
        what = what or f"the attribute `{name}` of {type(holder).__name__}"
        raise missing(what, package) from None


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
