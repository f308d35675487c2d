"""Binding: the hooks on one model. It holds no request, so threads may share it."""

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
    refuse_left_out,
    refuse_other_batch,
    refuse_other_model,
    refuse_other_origin,
    refuse_scores,
)
from fastav_plugin.binding.layer_entry import LayerEntry
from fastav_plugin.binding.model_checks import (
    refuse_compiled,
    refuse_compiled_flex,
    refuse_parallel,
)
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList, method_hooks
from fastav_plugin.layers.attention import RenamedAttention, takes_2d_masks
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import find_override
from fastav_plugin.pruning.bound_model import BoundModel
from fastav_plugin.pruning.forward import begin_decode, begin_prefill, open_prefill
from fastav_plugin.pruning.request import Request, request_of
from fastav_plugin.pruning.rope_deltas import continue_positions, positions_method
from fastav_plugin.upstream import check
from fastav_plugin.upstream.arguments import (
    argument_names,
    cache_of,
    readable_cache_names,
    with_cache,
)
from fastav_plugin.upstream.generation import find_generate_call
from fastav_plugin.upstream.positions import METHOD, long_rope_limit
from fastav_plugin.upstream.torch_internals import inlined_only, skip_wrappers

#: Two threads may give a model its first FastAVCache together.
_MAKING = threading.RLock()

#: Attribute of a bound head, and of its text model, that holds the Binding.
ATTRIBUTE = "_fastav_binding"


class Binding:
    """Hooks on one model: its head, its text model and each decoder layer.

    Args:
        head: the module that generate() calls.
        override: knowledge about its family.

    Attributes:
        model: the modules, and what is known about them.
        attention: renamed while scores are read.
        cache_for: set by `attach`: makes the cache that takes the place of one that generate()
            made, or None. Called with the latter and whether a generate() was found around it.
        on_report: set by `attach`: called with what each generate() dropped.
        on_unpruned: set by `attach`: called with the names of the model and of the cache, or None,
            of a call that runs dense.
        settings: set by `attach`: what is saved with the model.
        own_attributes: what `remove` puts back into the head's own attributes.
    """

    def __init__(self, head: nn.Module, override: ModelOverride) -> None:
        self.model = BoundModel.of(head, override)
        self.attention = RenamedAttention(self.model.attentions)
        self.cache_for: Callable[[Any, bool], Any] | None = None
        self.on_report: Callable[[Any], None] | None = None
        self.on_unpruned: Callable[[str, str | None], bool] | None = None
        self.settings: FastAVConfig | None = None
        self.own_attributes: dict[str, Any] = {}
        self._cache_names = readable_cache_names()
        self._long_rope = long_rope_limit(head)
        self._parameters = argument_names(head)
        self._text_parameters = argument_names(self.model.text_model)
        self._handles: list[RemovableHandle] = []

    @classmethod
    def of(cls, module: nn.Module) -> "Binding | None":
        """The binding of a head or of its text model, or None."""
        return module.__dict__.get(ATTRIBUTE)

    @classmethod
    def make(cls, head: nn.Module) -> "Binding":
        """The binding of a head, made and installed if there is none."""
        with _MAKING:
            return cls.of(head) or cls._make(head)

    @classmethod
    def _make(cls, head: nn.Module) -> "Binding":
        check()
        skip_wrappers()
        refuse_compiled(head)
        binding = cls(head, find_override(head))
        device = next((weights.device.type for weights in head.parameters()), "meta")
        refuse_compiled_flex(binding.model.attention_implementation, device)
        # The decoder may be bound through another module around it; one pair of hooks is enough.
        other = cls.of(binding.model.text_model)
        if other is not None and other.cache_for is not None:
            raise StateError(
                f"The decoder of {type(head).__name__} is attached through "
                f"{type(other.model.head).__name__}. Call that model, or detach it first."
            )
        if other is not None:
            other.remove()
        binding.install()
        return binding

    def install(self) -> None:
        """Put the hooks on, unless the model keeps its rotary positions in an unknown place."""
        head, text_model = self.model.head, self.model.text_model
        positions = positions_method(head)
        hooks: list[tuple[nn.Module, Any]] = [
            (head, self.enter_head),
            (text_model, self._enter_text_model),
        ]
        hooks += [
            (layer, LayerEntry(self.model, index, argument_names(layer)))
            for index, layer in enumerate(self.model.layers)
        ]
        for module, hook in hooks:
            self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        self._handles.append(head.register_forward_hook(self._leave_head, with_kwargs=True))
        head.__dict__[ATTRIBUTE] = text_model.__dict__[ATTRIBUTE] = self
        if positions is not None:
            self.own_attributes[METHOD] = None
            head.__dict__[METHOD] = positions

    def remove(self) -> None:
        """Take every hook and renamed config away; safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.attention.unwrap()
        self.model.text_model.__dict__.pop(ATTRIBUTE, None)
        attributes = self.model.head.__dict__
        attributes.pop(ATTRIBUTE, None)
        for name, value in self.own_attributes.items():
            if value is None:
                attributes.pop(name, None)
            else:
                attributes[name] = value
        self.own_attributes = {}

    def check(self, config: FastAVConfig, hooks: LayerHookList) -> None:
        """Refuse a config this model cannot follow, before any forward."""
        check_config(self.model.override, self.model.config, config, hooks, self.model.layers)
        refuse_scores(self.model, hooks)

    def adopt(self, request: Request) -> None:
        """Tie a fresh or loaded cache to this model; one in use with another is refused."""
        if request.model is self.model:
            return
        if request.model is not None:
            refuse_other_model(request.model.head, self.model.head)
            request.model = self.model  # it was detached and bound again since
            return
        if request.origin is not None:
            refuse_other_origin(request.origin, self.model)
            refuse_scores(self.model, request.hooks)
            request.model, request.origin = self.model, None
            return
        if request.config.global_rule is None:
            rule = self.model.override.global_rule
            request.config = request.config.replace(global_rule=rule)
            request.hooks = method_hooks(request.config)
        self.check(request.config, request.hooks)
        request.layers[:] = [FastAVLayer(window) for window in self.model.windows()]
        request.model = self.model

    @inlined_only
    def enter_head(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook of the head: open the request; None leaves the call as it is."""
        named = {**dict(zip(self._parameters, args, strict=False)), **kwargs} if args else kwargs
        past = cache_of(named)
        request = request_of(past)
        if request is None:
            if past is None and self._long_rope is not None:
                refuse_left_out(self.model.head, self._long_rope, self.cache_for is not None)
            if self.cache_for is None or not isinstance(past, Cache) or past.get_seq_length() > 0:
                return None
            replacement = self._replacement(past)
            request = request_of(replacement)
            if request is None:
                return None
            request.replaced_cache = past
            named = with_cache(named, replacement)
        elif request.call is kwargs:
            return None  # `enter_from_discovery` did it
        elif not any(name in named for name in self._cache_names):
            refuse_cache_name(module, named, past)
        refuse_parallel(module)
        self.adopt(request)
        refuse_call(self.model.head, named)
        if request.seen_tokens == 0:
            self.model.override.check_request(self.model.head, named)
        continue_positions(request, named)
        request.open(named)
        return (), named

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _replacement(self, past: Cache) -> Any:
        """The cache to take the place of an empty one, if generate() made it; it reads frames."""
        assert self.cache_for is not None
        return self.cache_for(past, find_generate_call(past) is not None)

    def enter_from_discovery(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """What the hooks do, in a call that may have begun before they were installed.

        If it had not, they come after this one, and know by the keywords that the work is done.
        """
        changed = self.enter_head(module, args, kwargs)
        if module is self.model.text_model:
            changed = self._enter_text_model(module, *(changed or (args, kwargs)))
        assert changed is not None
        request = request_of(cache_of(changed[1]))
        assert request is not None
        request.call = changed[1]
        return changed

    @inlined_only
    def _leave_head(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        request = request_of(cache_of(kwargs))
        if request is not None and request.model is self.model:
            request.close()

    @inlined_only
    def _enter_text_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self.attention.follow(self.model.attention_implementation)
        named = {**dict(zip(self._text_parameters, args, strict=False)), **kwargs}
        past, source = cache_of(named), named.get("inputs_embeds")
        source = named.get("input_ids") if source is None else source
        request = request_of(past)
        if request is None:
            # After a decoded token nothing new is said.
            if self.on_unpruned is not None and (
                past is None or source is None or source.shape[1] > 1
            ):
                name = None if past is None else type(past).__name__
                self.on_unpruned(type(self.model.head).__name__, name)
            return None
        if request.forward is not None and request.call is kwargs:
            return None
        call, request.call = request.call, None
        if call is None or request.model is not self.model:
            raise StateError(
                f"This FastAVCache reached {type(module).__name__} without passing through "
                f"{type(self.model.head).__name__}, which it is bound to. Call that model."
            )
        assert source is not None
        if request.seen_tokens:
            refuse_other_batch(request.layers[0].batch_size, source.shape[0])
        if request.seen_tokens and source.shape[1] == 1:
            self._decode(request, named, source)
        else:
            self._open(request, call, named, source)
        return (), named

    def _decode(self, request: Request, named: dict[str, Any], source: Tensor) -> None:
        """Begin a forward of which no hook is asked."""
        flash = takes_2d_masks(self.model.attention_implementation)
        begin_decode(request, named, source, flash)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _open(
        self, request: Request, call: dict[str, Any], named: dict[str, Any], source: Tensor
    ) -> None:
        """Begin a forward of which hooks may be asked; it reads frames, so it is never traced."""
        base = self.model.attention_implementation
        refuse_compiled_flex(base, source.device.type)
        prefill = open_prefill(request, call, named, source)
        if prefill is None:
            return self._decode(request, named, source)
        if prefill.reads_attention:
            self.attention.wrap(base)
        begin_prefill(request, prefill, named, source)
