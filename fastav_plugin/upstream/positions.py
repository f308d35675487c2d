"""Where models with multi-dimensional rotary positions keep how far these are ahead of counts."""

import copy
from typing import Any

from torch import Tensor, nn

from fastav_plugin.upstream.contract import Contracts, code_of, generation_mixin, mentions, takes
from fastav_plugin.upstream.releases import missing
from fastav_plugin.upstream.torch_internals import with_child

#: The method of a head in which generate() reads and writes the model's memory.
METHOD = "_prepare_position_ids_for_generation"
_MEMORY = "rope_deltas"

#: Configuration of models that compute everything anew, once, when a sequence gets longer.
LONG_ROPE = "original_max_position_embeddings"


def own_method(head: nn.Module) -> Any:
    """METHOD of a head's class; None where that is generate()'s own."""
    own = getattr(type(head), METHOD, None)
    return None if own is getattr(generation_mixin(), METHOD) else own


def stock_positions(head: Any, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
    """generate()'s own METHOD: positions counted from each prompt's first real token."""
    found: Tensor = getattr(generation_mixin(), METHOD)(head, inputs_tensor, model_kwargs)
    return found


def long_rope_limit(head: Any) -> int | None:
    """Length from which a model of the Phi-3 line is called without its cache, or None.

    It then computes all anew, once, with other rotary factors.
    """
    prepare = getattr(type(head), "prepare_inputs_for_generation", None)
    own = prepare is not None and prepare is not generation_mixin().prepare_inputs_for_generation
    of_the_line = type(head).__module__.startswith("transformers.models.phi")
    if own and of_the_line and not mentions(code_of(prepare), LONG_ROPE):
        name = f"{type(head).__name__}.prepare_inputs_for_generation"
        raise missing(f"the attribute `{LONG_ROPE}` in {name}")
    limit: int | None = getattr(head.config, LONG_ROPE, None)
    return limit


def path_to_memory(head: nn.Module) -> list[str] | None:
    """Names that lead from a head to the module that remembers; None if none does.

    A model of transformers' with a METHOD of its own must have one.
    """
    for name, module in head.named_modules():
        if _MEMORY in vars(module):
            return name.split(".") if name else []
    own = own_method(head)
    if own is not None and own.__module__.startswith("transformers."):
        raise missing(f"the attribute `{_MEMORY}` of the model inside {type(head).__name__}")
    return None


def remembering(module: nn.Module, path: list[str], deltas: Tensor) -> nn.Module:
    """A shallow copy of a model that shares all its weights and remembers other deltas.

    `path` is as of `path_to_memory`, `deltas` are int64 [B, 1].
    """
    if path:
        inner = remembering(getattr(module, path[0]), path[1:], deltas)
        return with_child(module, path[0], inner)
    twin = copy.copy(module)
    setattr(twin, _MEMORY, deltas)
    return twin


def remember(head: nn.Module, path: list[str], deltas: Tensor) -> None:
    """Write on a model how far its rotary positions are ahead; arguments as of `remembering`."""
    setattr(head.get_submodule(".".join(path)), _MEMORY, deltas)


CONTRACTS: Contracts = {
    f"the method GenerationMixin.{METHOD}(inputs_tensor, model_kwargs)": lambda: all(
        takes(getattr(generation_mixin(), METHOD), name)
        for name in ("inputs_tensor", "model_kwargs")
    ),
}
