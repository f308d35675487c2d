"""Binding: the hooks on one model. It holds no request, so threads may share it."""

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache

from fastav_plugin import upcalls
from fastav_plugin.binding.attachment import Attachment, Attachments, logger, say_unpruned
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
from fastav_plugin.binding.family_settings import with_defaults
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
        attachments: what `attach` and blocks of `pruned` ask for.
        lasting: whether the binding outlives those blocks: `attach` or a cache made it or needs it.
        own_attributes: what `remove` puts back into the head's own attributes.
    """

    def __init__(self, head: nn.Module, override: ModelOverride) -> None:
        self.model = BoundModel.of(head, override)
        self.attention = RenamedAttention(self.model.attentions)
        self.attachments = Attachments()
        self.lasting = False
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
            binding = cls.of(head) or cls._make(head)
            binding.lasting = True
            return binding

    @classmethod
    def attach(cls, head: nn.Module, attachment: Attachment, *, block: bool) -> "Binding":
        """Bind a head as an attachment asks: in all threads, or in a block of this context.

        Nothing is changed where the model or the config is refused.
        """
        with _MAKING:
            binding = cls.of(head) or cls._make(head)
            try:
                binding.check(attachment.config, method_hooks(attachment.config))
                if block:
                    binding.attachments.enter(attachment)
                else:
                    binding.attachments.set(attachment)
                    binding.lasting = True
            finally:
                binding._remove_unused()
            return binding

    def detach(self) -> None:
        """Undo `attach`, and remove the binding, unless a block of `pruned` still needs it."""
        with _MAKING:
            self.attachments.set(None)
            self.lasting = False
            self._remove_unused()

    def leave(self, block: Attachment) -> None:
        """End a block: what holds without it holds again."""
        with _MAKING:
            self.attachments.leave(block)
            if self.attachments.empty:
                self._restore("generate")
            self._remove_unused()

    def _remove_unused(self) -> None:
        if not self.attachments.blocks and not self.lasting:
            self.remove()

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
        if other is not None and other.attachments.replaces:
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
        """Take every hook and renamed config away; safe to call twice.

        A call of another thread's may be under way. torch has listed its hooks by then, but looks
        up afterwards which of them get keywords: a hook that gets none was removed.
        """
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.attention.unwrap()
        self.model.text_model.__dict__.pop(ATTRIBUTE, None)
        attributes = self.model.head.__dict__
        attributes.pop(ATTRIBUTE, None)
        for name in tuple(self.own_attributes):
            self._restore(name)

    def _restore(self, name: str) -> None:
        """Put an attribute of the head's own back, if it was replaced."""
        if name not in self.own_attributes:
            return
        value = self.own_attributes.pop(name)
        if value is None:
            self.model.head.__dict__.pop(name, None)
        else:
            self.model.head.__dict__[name] = value

    def check(self, config: FastAVConfig, hooks: LayerHookList) -> None:
        """Refuse a config this model cannot follow, before any forward."""
        check_config(self.model.override, self.model.config, config, hooks, self.model.layers)
        refuse_scores(self.model, hooks)

    def adopt(self, request: Request) -> None:
        """Tie a fresh or loaded cache to this model; one in use with another is refused."""
        if request.model is self.model:
            return
        if request.replaced_cache is None and not self.lasting:
            self._last()
        if request.model is not None:
            refuse_other_model(request.model.head, self.model.head)
            request.model = self.model  # it was detached and bound again since
            return
        if request.origin is not None:
            refuse_other_origin(request.origin, self.model)
            refuse_scores(self.model, request.hooks)
            request.model, request.origin = self.model, None
            return
        if not request.given_config:
            request.config = upcalls.resolve_config(self.model.head, {})
            request.hooks = method_hooks(request.config)
        else:
            layers = len(self.model.layers)
            filled = with_defaults(request.config, self.model.override, layers)
            if filled is not request.config:
                request.config, request.hooks = filled, method_hooks(filled)
        self.check(request.config, request.hooks)
        request.layers[:] = [FastAVLayer(window) for window in self.model.windows()]
        request.model = self.model

    @inlined_only
    def enter_head(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook of the head: open the request; None leaves the call as it is."""
        if kwargs is None:
            return None  # see `remove`
        named = {**dict(zip(self._parameters, args, strict=False)), **kwargs} if args else kwargs
        past = cache_of(named)
        request = request_of(past)
        if request is None:
            if past is None and self._long_rope is not None:
                refuse_left_out(self.model.head, self._long_rope, self._replaces_here())
            if (
                not self.attachments.replaces
                or not isinstance(past, Cache)
                or past.get_seq_length() > 0
            ):
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
        attachment = self.attachments.replacing
        if attachment is None or attachment.cache_for is None:
            return None
        return attachment.cache_for(past, find_generate_call(past) is not None)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _replaces_here(self) -> bool:
        return self.attachments.replacing is not None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _last(self) -> None:
        """Outlive the blocks, for a cache of the caller's; the last may just have ended."""
        with _MAKING:
            self.lasting = True
            if self.of(self.model.head) is None:
                self.install()

    # Where dynamo compiles the call this runs when the graph is made, and does not break it.
    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _say_unpruned(self, model: str, cache: str | None) -> bool:
        attachment = self.attachments.replacing
        if attachment is not None:
            say_unpruned(attachment, model, cache)
        return True

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
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None
    ) -> None:
        if output is None:
            return  # see `remove`
        request = request_of(cache_of(kwargs))
        if request is not None and request.model is self.model:
            request.close()
            if request.unlogged:
                self._log(request)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _log(self, request: Request) -> None:
        """One line for the prompt of a generate() that was given a FastAVCache."""
        request.unlogged = False
        logger.info("fastav: %s", request.report(None))

    @inlined_only
    def _enter_text_model(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if kwargs is None:
            return None  # see `remove`
        self.attention.follow(self.model.attention_implementation)
        named = {**dict(zip(self._text_parameters, args, strict=False)), **kwargs}
        past, source = cache_of(named), named.get("inputs_embeds")
        source = named.get("input_ids") if source is None else source
        request = request_of(past)
        if request is None:
            # After a decoded token nothing new is said.
            if self.attachments.replaces and (
                past is None or source is None or source.shape[1] > 1
            ):
                name = None if past is None else type(past).__name__
                self._say_unpruned(type(self.model.head).__name__, name)
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
