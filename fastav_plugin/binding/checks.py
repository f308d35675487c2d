"""What is refused before any forward: compiled and parallel models, impossible settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache

from fastav_plugin.binding.model_identity import WeightSample, decoder_sizes, is_known, remember
from fastav_plugin.calibration_file import Calibration, read_calibration, read_tensors
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, StateError, UnsupportedError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.pruning.request import state_of
from fastav_plugin.upstream.arguments import cache_name, readable_cache_names
from fastav_plugin.upstream.compilation import compiles_nothing, is_compiled, without_compilation
from fastav_plugin.upstream.generation import left_out_cache
from fastav_plugin.upstream.positions import LONG_ROPE
from fastav_plugin.upstream.releases import installed, tested
from fastav_plugin.upstream.torch_internals import is_replica

#: Wrappers that call the model inside them on slices of a batch.
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def check_config(
    override: ModelOverride,
    model_config: Any,
    config: FastAVConfig,
    hooks: LayerHookList,
    layers: Sequence[nn.Module] = (),
) -> None:
    """Refuse what a model's configuration alone shows to be impossible.

    With its decoder layers, also a calibration of other weights.

    Raises:
        ConfigError, HookError: with the setting at fault.
    """
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
    sizes, model = decoder_sizes(text_config), calibration.facts["model"]
    reasons = [
        f"its {name} is {model.get(name)!r}, this model's {value!r}"
        for name, value in sizes.items()
        if model.get(name, value) != value
    ]
    digest = str(model.get("digest"))
    if not reasons and layers and not is_known(layers, digest):
        values = read_tensors(calibration.path)["model.weights"]
        there = WeightSample.from_facts(model["weights"], values)
        reason = there.difference(WeightSample.of(layers))
        if reason is None:
            remember(layers, digest)
        else:
            reasons.append(f"{reason}; a fine-tune is another model")
    if reasons:
        raise ConfigError(
            f"The calibration file '{calibration.path}' was made for another model: {reasons[0]}. "
            "Calibrate this one with `fastav calibrate`, or give its settings as fields."
        )


def refuse_scores(
    override: ModelOverride, head: nn.Module, hooks: LayerHookList, layers: int
) -> None:
    """Raise if a hook asks for scores or rollout, of attention this model does not hand over.

    Raises:
        UnsupportedError: with methods that need none.
    """
    asked = any((hook.needs_scores or hook.needs_rollout) and hook.layers(layers) for hook in hooks)
    if asked and not override.scores_allowed(head):
        raise UnsupportedError(
            f"The attention scores of {type(head).__name__} cannot be read: its attention is "
            "picked by name, or is more than a softmax over the keys. Use positional hooks or "
            "DivPrune (method='divprune')."
        )


def _has_mrope(text_config: Any) -> bool:
    rope = getattr(text_config, "rope_parameters", None) or getattr(
        text_config, "rope_scaling", None
    )
    return isinstance(rope, dict) and "mrope_section" in rope


def refuse_call(head: nn.Module, named: dict[str, Any]) -> None:
    """Raise for a call of a model that a FastAVCache cannot serve.

    Args:
        head: the model.
        named: all arguments of its call by name.

    Raises:
        UnsupportedError: with the argument at fault.
    """
    if head.training:
        raise UnsupportedError("Pruning is for inference. Call model.eval() first.")
    if named.get("labels") is not None:
        raise UnsupportedError(
            "`labels` do not fit the surviving rows' logits. Compute losses without a FastAVCache."
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
    """Raise where a model of the Phi-3 line drops its cache to change its rotary factors.

    Args:
        head: a model that was called without a cache.
        limit: the length at which it does so.
        attached: whether its generate() prunes with any cache of its own.

    Raises:
        UnsupportedError: with that length.
    """
    left_out = left_out_cache(head)
    if state_of(left_out) is not None or (attached and left_out is not None):
        raise UnsupportedError(
            f"{type(head).__name__} leaves its cache behind as soon as a sequence is longer than "
            f"{LONG_ROPE}={limit}, so nothing would be pruned from there on. Keep prompt and "
            "answer below that length."
        )


def refuse_cache_name(head: nn.Module, named: dict[str, Any], cache: Any) -> None:
    """Raise if a FastAVCache is given under a keyword that the installed release does not read.

    Args:
        head: the model called.
        named: keywords of the call.
        cache: the FastAVCache.

    Raises:
        UnsupportedError: with the right keyword.
    """
    given = next((name for name, value in named.items() if value is cache), None)
    if given is not None and given not in readable_cache_names():
        raise UnsupportedError(
            f"{type(head).__name__} got a FastAVCache as `{given}`, which transformers "
            f"{installed()} does not read. Pass it as `{cache_name()}`."
        )


def refuse_other_model(bound: nn.Module, head: nn.Module) -> None:
    """Raise if a cache that is in use with one model is given to another.

    Raises:
        StateError: with both classes.
    """
    if bound is not head:
        raise StateError(
            f"This FastAVCache is in use with another {type(bound).__name__}; "
            f"{type(head).__name__} needs a FastAVCache of its own."
        )


def refuse_other_batch(held: int, brought: int) -> None:
    """Raise if a forward brings another number of batch rows than the cache holds.

    Raises:
        StateError: with both numbers.
    """
    if held != brought:
        raise StateError(
            f"This FastAVCache holds {held} batch rows and the model brings {brought}. Make "
            "another cache, or call batch_repeat_interleave() or batch_select_indices()."
        )


def refuse_settings(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise for settings of generate() that leave an attached model nothing to prune.

    Args:
        head: the model.
        args: positional arguments of generate: inputs, generation_config, ...
        kwargs: its keywords.

    Raises:
        UnsupportedError: with the setting at fault.
    """
    given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    configs = [given, getattr(head, "generation_config", None)]
    known = (config.use_cache for config in configs if config is not None)
    # A None among the keywords is taken at its word, not for "the default".
    use_cache = kwargs.get("use_cache", next((value for value in known if value is not None), True))
    if not use_cache:
        raise UnsupportedError(
            f"use_cache={use_cache} leaves an attached model nothing to prune. Leave it out, or "
            "detach(model)."
        )
    if kwargs.get("cache_implementation") == "paged":
        raise UnsupportedError(
            "cache_implementation='paged' is continuous batching, whose cache is shared by all "
            "requests and cannot be pruned. Leave `cache_implementation` unset, or detach(model)."
        )


def refuse_unseen(
    head: nn.Module, seen: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise if an attached model's generate() ended without showing a cache to exchange.

    Args:
        head: the model.
        seen: whether it showed one.
        args: positional arguments of generate.
        kwargs: its keywords; with a cache or a loop of the caller's there is none to show.

    Raises:
        UnsupportedError: it ran unpruned.
    """
    own = any(isinstance(value, Cache) for value in (*args, *kwargs.values()))
    if seen or own or kwargs.get("custom_generate") is not None:
        return
    raise UnsupportedError(
        f"The generate() of {type(head).__name__} ended without a cache that could be exchanged, "
        f"so nothing was pruned. transformers {installed()} is installed, tested are {tested()}. "
        "Pass a FastAVCache, or detach(model)."
    )


def refuse_prompt_learning(model: nn.Module) -> None:
    """Raise for PEFT's adapters that put virtual tokens before the prompt, or into its cache.

    Raises:
        UnsupportedError: with the kind of adapter.
    """
    adapter: Any = getattr(without_compilation(model), "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise UnsupportedError(
            f"PEFT's {adapter.peft_type.value} brings prompts as embeddings, or fills generate's "
            "cache before them, so nothing says where their media are. Use an adapter of weights, "
            "such as LoRA, or give FastAVCache a TokenMap of the prompt with its virtual tokens."
        )


def refuse_compiled(head: nn.Module) -> None:
    """Raise if any part of the model was compiled: dynamo would skip hooks added now.

    Raises:
        UnsupportedError: "attach, then compile".
    """
    for module in head.modules():
        if is_compiled(module):
            raise UnsupportedError(
                f"{type(module).__name__} was compiled before attach, so its hooks would be "
                "skipped. Attach, then compile: load the model anew, call "
                "fastav_plugin.attach(model, config), then torch.compile."
            )


def refuse_parallel(module: Any) -> None:
    """Raise for a data-parallel wrapper or replica: one cache cannot follow several models.

    Raises:
        UnsupportedError: with the way to the model inside.
    """
    # By name: torch's sharded package is imported by those who use it.
    sharded = type(module).__name__ == "FullyShardedDataParallel"
    if isinstance(module, PARALLEL) or sharded or is_replica(module):
        raise UnsupportedError(
            f"{type(module).__name__} takes part in data parallelism, whose copies of a model "
            "cannot share a FastAVCache. Use the model itself, attach(model.module, config) and "
            "model.module.generate(...), in one process for each device."
        )


def refuse_compiled_flex(attention: str, device: str) -> None:
    """Raise where the kernel that torch compiles of flex attention would read past a cut mask.

    Raises:
        UnsupportedError: on a CPU, unless torch.compile is off.
    """
    if attention == "flex_attention" and device == "cpu" and not compiles_nothing():
        raise UnsupportedError(
            "Compiled flex_attention on a CPU crashes on the masks of a cut. Use "
            "attn_implementation='sdpa', or torch.compiler.set_stance('force_eager')."
        )
