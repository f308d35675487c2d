"""What is refused of a config, and of a call of the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fastav_plugin.calibration_file import Calibration, read_calibration, read_tensors
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, StateError, UnsupportedError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.pruning.bound_model import BoundModel, Origin
from fastav_plugin.pruning.model_identity import WeightSample, is_known, other_sizes, remember
from fastav_plugin.pruning.request import request_of
from fastav_plugin.upstream.arguments import cache_name, readable_cache_names
from fastav_plugin.upstream.generation import left_out_cache
from fastav_plugin.upstream.positions import LONG_ROPE
from fastav_plugin.upstream.releases import installed


def check_config(
    override: ModelOverride,
    model_config: Any,
    config: FastAVConfig,
    hooks: LayerHookList,
    layers: Sequence[nn.Module] = (),
) -> None:
    """Refuse what a model's configuration, and given its layers their weights, rule out."""
    text_config = override.text_config(model_config)
    if config.calibration is not None:
        _refuse_other_calibration(read_calibration(config.calibration), text_config, layers)
    places = hooks.places(text_config.num_hidden_layers)
    deepstack = override.deepstack_layers(model_config)
    early = sorted(place for place in places if 0 < place < deepstack)
    if early:
        raise ConfigError(
            f"This model adds visual features after each of its first {deepstack} layers, so a cut "
            f"on entering layer {early[0]} would misplace them. Cut at layer {deepstack} or later, "
            "or before layer 0."
        )
    if config.positions == "renumbered" and _has_mrope(text_config):
        raise ConfigError(
            "positions='renumbered' needs one-dimensional rotary positions; this model's are "
            "multi-dimensional. Use positions='original'."
        )


def _refuse_other_calibration(
    calibration: Calibration, text_config: Any, layers: Sequence[nn.Module]
) -> None:
    model = calibration.facts["model"]
    digest = str(model.get("digest"))
    reason = other_sizes(model, text_config)
    if reason is None and layers and not is_known(layers, digest):
        values = read_tensors(calibration.path)["model.weights"]
        there = WeightSample.from_facts(model["weights"], values)
        reason = there.difference(WeightSample.of(layers))
        if reason is None:
            remember(layers, digest)
        else:
            reason = f"{reason}; a fine-tune is another model"
    if reason is not None:
        raise ConfigError(
            f"The calibration file '{calibration.path}' was made for another model: {reason}. "
            "Calibrate this one with `fastav calibrate`, or give its settings as fields."
        )


def refuse_scores(model: BoundModel, hooks: LayerHookList) -> None:
    """Refuse hooks that ask for scores or rollout, of attention this model does not hand over."""
    layers = len(model.layers)
    asked = any((hook.needs_scores or hook.needs_rollout) and hook.layers(layers) for hook in hooks)
    if asked and not model.override.scores_allowed(model.head):
        raise UnsupportedError(
            f"The attention scores of {type(model.head).__name__} cannot be read: its attention is "
            "picked by name, or is more than a softmax over the keys. Use positional hooks or "
            "DivPrune (method='divprune')."
        )


def _has_mrope(text_config: Any) -> bool:
    rope = getattr(text_config, "rope_parameters", None) or getattr(
        text_config, "rope_scaling", None
    )
    return isinstance(rope, dict) and "mrope_section" in rope


def refuse_call(head: nn.Module, named: dict[str, Any]) -> None:
    """Refuse a call of a model, its arguments by name, that a FastAVCache cannot serve."""
    if head.training:
        raise UnsupportedError("Pruning is for inference. Call model.eval() first.")
    if named.get("labels") is not None:
        raise UnsupportedError(
            "`labels` do not fit the logits of the survivors. Compute losses without a FastAVCache."
        )
    if named.get("use_cache") is False:
        raise UnsupportedError(
            "use_cache=False contradicts a FastAVCache. Leave it out, or pass no cache."
        )
    if not isinstance(named.get("logits_to_keep", 0), int):
        raise UnsupportedError(
            "`logits_to_keep` must be an integer with a FastAVCache, got "
            f"{type(named['logits_to_keep']).__name__}."
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def refuse_left_out(head: nn.Module, limit: int, attached: bool) -> None:
    """Refuse a call without a cache where a model of the Phi-3 line dropped its own.

    It does so at a length, `limit`, to change its rotary factors. An `attached` one's generate()
    prunes with any cache of its own.
    """
    left_out = left_out_cache(head)
    if request_of(left_out) is not None or (attached and left_out is not None):
        raise UnsupportedError(
            f"{type(head).__name__} drops its cache as soon as a sequence is longer than "
            f"{LONG_ROPE}={limit}, so nothing would be pruned from there on. Keep prompt and "
            "answer below that length."
        )


def refuse_cache_name(head: nn.Module, named: dict[str, Any], cache: Any) -> None:
    """Refuse a FastAVCache under a keyword that the installed release does not read."""
    given = next((name for name, value in named.items() if value is cache), None)
    if given is not None and given not in readable_cache_names():
        raise UnsupportedError(
            f"{type(head).__name__} got a FastAVCache as `{given}`, which transformers "
            f"{installed()} does not read. Pass it as `{cache_name()}`."
        )


def refuse_other_model(bound: nn.Module, head: nn.Module) -> None:
    """Refuse a cache that is in use with another model."""
    if bound is not head:
        raise StateError(
            f"This FastAVCache is in use with another {type(bound).__name__}; "
            f"{type(head).__name__} needs a FastAVCache of its own."
        )


def refuse_other_origin(origin: Origin, model: BoundModel) -> None:
    """Refuse a loaded cache that another model filled."""
    text_config = model.override.text_config(model.config)
    reason = origin.identity.difference(text_config, model.layers)
    if reason is not None:
        raise StateError(
            f"This FastAVCache was filled by another model: {reason}. Call the model that filled "
            f"it; {type(model.head).__name__} needs a FastAVCache of its own."
        )


def refuse_other_batch(held: int, given: int) -> None:
    """Refuse a forward of another batch size than the cache's."""
    if held != given:
        raise StateError(
            f"This FastAVCache's batch size is {held}, the input's batch size is {given}. Make "
            "another cache, or call batch_repeat_interleave() or batch_select_indices()."
        )
