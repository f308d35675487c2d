"""One name of another package that this one relies on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType
from typing import Any


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


def code_of(function: Any) -> CodeType:
    """The code of a function below its decorators."""
    code: CodeType = inspect.unwrap(function).__code__
    return code


def has_variable(code: CodeType, name: str) -> bool:
    """Whether a function has a parameter or local variable of this name."""
    return name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


def mentions(code: CodeType, name: str) -> bool:
    """Whether a function's own code holds a name, as an attribute, a global or a string."""
    return name in code.co_names or _among(name, code.co_consts)


def _among(name: str, constants: Iterable[Any]) -> bool:
    return any(
        name == item or (isinstance(item, (tuple, frozenset)) and name in item)
        for item in constants
    )


def takes(function: Any, *names: str) -> bool:
    """Whether a function has a parameter of one of these names."""
    return not set(names).isdisjoint(inspect.signature(function).parameters)
