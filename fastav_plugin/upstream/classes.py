"""Classes of transformers that names are looked up in, imported when they are first asked for.

So importing this package runs no modeling code of transformers, and cannot fail in it.
"""

from __future__ import annotations

from typing import Any


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
