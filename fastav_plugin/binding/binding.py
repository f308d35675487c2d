"""Binding: the hooks on one model. It holds no request, so threads may share it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache

from fastav_plugin.binding.checks import (
    check_config,
    refuse_cache_name,
    refuse_call,
    refuse_compiled,
    refuse_compiled_flex,
    refuse_left_out,
    refuse_other_batch,
    refuse_other_model,
    refuse_parallel,
    refuse_scores,
)
from fastav_plugin.binding.layer_entry import LayerEntry
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList, method_hooks
from fastav_plugin.layers.attention import RenamedAttention, takes_2d_masks
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.layers.tensor_parallel import find_ranks, refuse_stages
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import find_override
from fastav_plugin.pruning.decode import Append
from fastav_plugin.pruning.prompt import (
    base_attention,
    cut_deepstack,
    open_prefill,
    shift_positions,
)
from fastav_plugin.pruning.request import State, state_of
from fastav_plugin.pruning.rope_deltas import continue_positions, positions_method, remember
from fastav_plugin.upstream import check
from fastav_plugin.upstream.arguments import (
    argument_names,
    cache_of,
    check_deepstack,
    check_head,
    check_layer,
    check_text_model,
    readable_cache_names,
    with_cache,
)
from fastav_plugin.upstream.compilation import inlined_only, skip_wrappers
from fastav_plugin.upstream.generation import find_generate_call
from fastav_plugin.upstream.positions import METHOD, long_rope_limit

#: Two threads may give a model its first FastAVCache together.
_MAKING = threading.RLock()

#: Attribute of a bound head, and of its text model, that holds the Binding.
ATTRIBUTE = "_fastav_binding"


class Binding:
    """Hooks on one model: its head, its text model and each decoder layer.

    Args:
        head: the module that generate() calls.
        override: knowledge about its family.
    """

    def __init__(self, head: nn.Module, override: ModelOverride) -> None:
        self.override = override
        refuse_stages(head)
        self.parts = override.parts(head)
        check_head(head)
        check_text_model(self.parts.text_model)
        for layer in {type(layer): layer for layer in self.parts.layers}.values():
            check_layer(layer)
        if override.deepstack_layers(head.config):
            check_deepstack(self.parts.text_model)
        override.check_text_model(self.parts.text_model)
        text_config = override.text_config(self.parts.head.config)
        self.ranks = find_ranks(head, self.parts.attentions, text_config)
        self.attention = RenamedAttention(self.parts.attentions)
        #: Set by `attach`: the cache to take the place of one that generate made, or None.
        #: Called with the cache and whether a generate() was found that decodes with it.
        self.exchange: Callable[[Any, bool], Any] | None = None
        #: Set by `attach`: who is told what each generate() dropped.
        self.on_report: Callable[[Any], None] | None = None
        #: What `remove` puts back into the head's own attributes.
        self.replaced: dict[str, Any] = {}
        self._cache_names = readable_cache_names()
        self._long_rope = long_rope_limit(head)
        self._parameters = argument_names(head)
        self._text_parameters = argument_names(self.parts.text_model)
        self._handles: list[RemovableHandle] = []

    @classmethod
    def of(cls, module: nn.Module) -> Binding | None:
        """The binding of a head or of its text model, or None."""
        return module.__dict__.get(ATTRIBUTE)

    @classmethod
    def make(cls, head: nn.Module) -> Binding:
        """The binding of a head, made and installed if there is none.

        Raises:
            UnsupportedError: the model cannot be pruned, or was compiled.
        """
        with _MAKING:
            return cls.of(head) or cls._make(head)

    @classmethod
    def _make(cls, head: nn.Module) -> Binding:
        check()
        skip_wrappers()
        refuse_compiled(head)
        binding = cls(head, find_override(head))
        device = next((weights.device.type for weights in head.parameters()), "meta")
        refuse_compiled_flex(binding.base_attention, device)
        # The decoder may be bound through another module around it; one pair of hooks is enough.
        other = cls.of(binding.parts.text_model)
        if other is not None and other.exchange is not None:
            raise StateError(
                f"The decoder of {type(head).__name__} is attached through "
                f"{type(other.parts.head).__name__}. Call that model, or detach it first."
            )
        if other is not None:
            other.remove()
        binding.install()
        return binding

    def install(self) -> None:
        """Put the hooks on.

        Raises:
            UnsupportedError: the model keeps its rotary positions elsewhere.
        """
        positions = positions_method(self.parts.head)
        hooks: list[tuple[nn.Module, Any]] = [
            (self.parts.head, self.enter_head),
            (self.parts.text_model, self._enter_text_model),
        ]
        hooks += [
            (layer, LayerEntry(self, index, argument_names(layer)))
            for index, layer in enumerate(self.parts.layers)
        ]
        for module, hook in hooks:
            self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        head, text_model = self.parts.head, self.parts.text_model
        self._handles.append(head.register_forward_hook(self._leave_head, with_kwargs=True))
        head.__dict__[ATTRIBUTE] = text_model.__dict__[ATTRIBUTE] = self
        if positions is not None:
            self.replaced[METHOD] = None
            head.__dict__[METHOD] = positions

    def remove(self) -> None:
        """Take every hook and renamed config away; safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.attention.unwrap()
        self.parts.text_model.__dict__.pop(ATTRIBUTE, None)
        attributes = self.parts.head.__dict__
        attributes.pop(ATTRIBUTE, None)
        for name, value in self.replaced.items():
            if value is None:
                attributes.pop(name, None)
            else:
                attributes[name] = value
        self.replaced = {}

    @property
    def base_attention(self) -> str:
        """Name of the attention implementation the user chose."""
        return base_attention(self.parts)

    def check(self, config: FastAVConfig, hooks: LayerHookList) -> None:
        """Refuse a config this model cannot follow, before any forward.

        Raises:
            ConfigError, HookError, UnsupportedError: with the setting at fault.
        """
        check_config(self.override, self.parts.head.config, config, hooks, self.parts.layers)
        refuse_scores(self.override, self.parts.head, hooks, len(self.parts.layers))

    def adopt(self, state: State) -> None:
        """Tie a fresh cache to this model.

        Raises:
            StateError: the cache is in use with another model.
        """
        if state.binding is self:
            return
        if state.binding is not None:
            refuse_other_model(state.binding.parts.head, self.parts.head)
            state.binding = self  # the model was detached and bound again since
            return
        if state.config.global_rule is None:
            state.config = state.config.replace(global_rule=self.override.global_rule)
            state.hooks = method_hooks(state.config)
        self.check(state.config, state.hooks)
        config = self.parts.head.config
        state.layers[:] = [
            FastAVLayer(self.override.window(config, index))
            for index in range(len(self.parts.layers))
        ]
        state.binding = self

    @inlined_only
    def enter_head(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook of the head: open the request; None leaves the call as it is."""
        named = {**dict(zip(self._parameters, args, strict=False)), **kwargs} if args else kwargs
        past = cache_of(named)
        state = state_of(past)
        if state is None:
            if past is None and self._long_rope is not None:
                refuse_left_out(self.parts.head, self._long_rope, self.exchange is not None)
            if self.exchange is None or not isinstance(past, Cache) or past.get_seq_length() > 0:
                return None
            replacement = self._replacement(past)
            state = state_of(replacement)
            if state is None:
                return None
            state.replaces = past
            named = with_cache(named, replacement)
        elif state.served is kwargs:
            return None
        elif not any(name in named for name in self._cache_names):
            refuse_cache_name(module, named, past)
        refuse_parallel(module)
        self.open_head(state, named)
        return (), named

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _replacement(self, past: Cache) -> Any:
        """The cache to take the place of an empty one, if generate() made it; it reads frames."""
        assert self.exchange is not None
        return self.exchange(past, find_generate_call(past) is not None)

    def first_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """What the hooks do, in a call that may have begun before they were installed.

        If it did not, they come after this one and leave its keywords, `state.served`, alone.
        """
        changed = self.enter_head(module, args, kwargs)
        if module is self.parts.text_model:
            changed = self._enter_text_model(module, *(changed or (args, kwargs)))
        assert changed is not None
        state = state_of(cache_of(changed[1]))
        assert state is not None
        state.served = changed[1]
        return changed

    def open_head(self, state: State, named: dict[str, Any]) -> None:
        """Take note of the head's call, and refuse what cannot be pruned.

        Args:
            state: the cache's state.
            named: all arguments of the call by name.
        """
        self.adopt(state)
        refuse_call(self.parts.head, named)
        if state.length == 0:
            self.override.check_request(self.parts.head, named)
        continue_positions(state, named)
        state.open(named)

    @inlined_only
    def _leave_head(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        state = state_of(cache_of(kwargs))
        if state is not None and state.binding is self:
            state.close()

    @inlined_only
    def _enter_text_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self.attention.follow(self.base_attention)
        named = {**dict(zip(self._text_parameters, args, strict=False)), **kwargs}
        state = state_of(cache_of(named))
        if state is None or state.served is kwargs:
            return None
        call, state.call = state.call, None
        if call is None or state.binding is not self:
            raise StateError(
                f"This FastAVCache reached {type(module).__name__} without passing through "
                f"{type(self.parts.head).__name__}, which it is bound to. Call that model."
            )
        source = named.get("inputs_embeds")
        source = named["input_ids"] if source is None else source
        if state.length:
            refuse_other_batch(state.layers[0].batch_size, source.shape[0])
        if state.length and source.shape[1] == 1:
            self._append(state, named, source)
        else:
            self._open(state, call, named, source)
        return (), named

    def _append(self, state: State, named: dict[str, Any], source: Tensor) -> None:
        """Begin a forward of which no hook is asked."""
        state.forward = Append(source.shape[1], takes_2d_masks(self.base_attention))
        shift_positions(state, named, state.length, source)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _open(
        self, state: State, call: dict[str, Any], named: dict[str, Any], source: Tensor
    ) -> None:
        """Begin a forward of which hooks may be asked; it reads frames, so it is never traced."""
        refuse_compiled_flex(self.base_attention, source.device.type)
        prefill = open_prefill(state, call, source, self.parts, self.override)
        remember(state, named, state.length, source.shape[1])
        if prefill is None:
            return self._append(state, named, source)
        if state.length:
            shift_positions(state, named, state.length, source)
        prefill.observation.ranks = self.ranks
        if prefill.reads_attention:
            self.attention.wrap(self.base_attention)
        state.forward = prefill
        if named.get("inputs_embeds") is not None and prefill.reason is None:
            kept = prefill.pick_entrance(named["inputs_embeds"])
            if kept is not None:
                cut_deepstack(named, kept, prefill)
