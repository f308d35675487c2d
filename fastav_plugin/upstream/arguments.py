"""Names of the arguments of forwards, and of the fields of what they return."""

import inspect
from collections.abc import Container, Mapping
from typing import Any

from torch import nn

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.contract import (
    Contracts,
    code_of,
    generation_mixin,
    mentions,
    output_class,
    takes,
)
from fastav_plugin.upstream.releases import installed, missing, tested

# Of a decoder layer; its text model takes the last four as well.
HIDDEN = "hidden_states"
ROTARY = "position_embeddings"
MASK = "attention_mask"
POSITIONS = "position_ids"

#: The cache: renamed in transformers 5.24, which still takes the older name with a warning.
CACHE_NAMES = ("cache", "past_key_values")

# Of a text model whose loop adds visual features after its lowest layers.
DEEPSTACK_PLACES = "visual_pos_masks"
DEEPSTACK_FEATURES = "deepstack_visual_embeds"

#: Arguments of a head that bring text, or no tokens at all.
OF_TEXT = frozenset(
    "input_ids inputs_embeds attention_mask use_cache logits_to_keep return_dict "
    "output_hidden_states output_attentions output_router_logits cache_position".split()
) | frozenset(CACHE_NAMES)

#: Arguments of a text model that need no cutting, or that the engine cuts.
OF_TEXT_MODELS = OF_TEXT | frozenset(
    ("position_ids", "kwargs", DEEPSTACK_PLACES, DEEPSTACK_FEATURES, "flash_attn_kwargs")
)


def cache_name() -> str:
    """The keyword of generate() and of forwards for a cache, which no warning follows."""
    prepare = generation_mixin().prepare_inputs_for_generation
    return _cache_name_among(inspect.signature(prepare).parameters, _NAMED)


def cache_argument(cache: Any) -> dict[str, Any]:
    """A cache as the keyword of a call: `model.generate(**inputs, **cache_argument(cache))`."""
    return {cache_name(): cache}


def readable_cache_names() -> tuple[str, ...]:
    """All keywords under which the installed release reads a cache, older ones included."""
    return CACHE_NAMES[CACHE_NAMES.index(cache_name()) :]


def cache_of(named: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, or among generate()'s model inputs; or None."""
    found = named.get("cache")
    return named.get("past_key_values") if found is None else found


def with_cache(named: Mapping[str, Any], cache: Any) -> dict[str, Any]:
    """The arguments of a call with another cache, under the name that the caller used."""
    given = [name for name in CACHE_NAMES if named.get(name) is not None]
    return {**named, given[0] if given else cache_name(): cache}


def cache_in(output: Any) -> Any:
    """The cache among the outputs of a forward or of generate(); None if it returned none."""
    fields = vars(output)
    return fields[_cache_name_among(fields, f"a field {_EITHER} of {type(output).__name__}")]


def output_name() -> str:
    """The field of a model's output that holds its cache."""
    return _cache_name_among(output_class().__dataclass_fields__, _FIELD)


def argument_names(module: nn.Module) -> list[str]:
    """Names of the arguments of a module's forward, in order."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def takes_cache(module: nn.Module) -> bool:
    """Whether a module's forward takes a cache."""
    return takes(type(module).forward, *CACHE_NAMES)


def check_layer(layer: nn.Module) -> None:
    """Make sure that a decoder layer takes what a cut has to change, under the known names.

    An UnsupportedError says which arguments are there.
    """
    _require(layer, (HIDDEN,), (MASK,), (ROTARY,), CACHE_NAMES)


def check_text_model(text_model: nn.Module) -> None:
    """The same for the module that runs the layers."""
    _require(text_model, ("input_ids",), ("inputs_embeds",), (MASK,), (POSITIONS,), CACHE_NAMES)


def check_deepstack(text_model: nn.Module) -> None:
    """The same for a text model that adds visual features after its lowest layers."""
    _require(text_model, (DEEPSTACK_PLACES,), (DEEPSTACK_FEATURES,))


def check_head(head: nn.Module) -> None:
    """The same for the module that generate() calls, which may hand on what it does not name."""
    parameters = inspect.signature(type(head).forward).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        _require(head, ("input_ids",), (MASK,), (POSITIONS,), CACHE_NAMES)


def _require(module: nn.Module, *arguments: tuple[str, ...]) -> None:
    """Raise unless a forward takes each of the arguments, under one of its names."""
    parameters = argument_names(module)
    lacking = next((names for names in arguments if set(names).isdisjoint(parameters)), None)
    if lacking is not None:
        wanted = " or ".join(f"`{name}`" for name in lacking)
        raise UnsupportedError(
            f"{type(module).__name__}.forward takes no argument {wanted} but "
            f"{', '.join(parameters)}; transformers {installed()} is installed, fastav_plugin was "
            f"tested with {tested()}. If the model's code is your own, name the argument so."
        )


def _cache_name_among(names: Container[str], what: str) -> str:
    for name in CACHE_NAMES:
        if name in names:
            return name
    raise missing(what)


_EITHER = " or ".join(f"`{name}`" for name in CACHE_NAMES)
_NAMED = f"a parameter {_EITHER} of GenerationMixin.prepare_inputs_for_generation"
_FIELD = f"a field {_EITHER} of BaseModelOutputWithPast"

CONTRACTS: Contracts = {
    _NAMED: lambda: takes(generation_mixin().prepare_inputs_for_generation, *CACHE_NAMES),
    _FIELD: lambda: not set(CACHE_NAMES).isdisjoint(output_class().__dataclass_fields__),
    "the argument `logits_to_keep` in GenerationMixin._supports_logits_to_keep": lambda: mentions(
        code_of(generation_mixin()._supports_logits_to_keep), "logits_to_keep"
    ),
}
