"""The prefill of a prompt or a later turn: which tokens survive, what each layer gets of them."""

import operator
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import HookError, StateError
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView
from fastav_plugin.hooks.plannable import PlannableHook
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers.account import Account
from fastav_plugin.layers.arguments import cut_positions, cut_rotary, cut_tokens, gather
from fastav_plugin.layers.attention import OBSERVER
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.layers.masks import cut_mask, last_columns
from fastav_plugin.pruning.bound_model import Decoder
from fastav_plugin.pruning.observer import Observer, PruningListener
from fastav_plugin.pruning.prompt import Prompt, Reason
from fastav_plugin.pruning.survivors import Survivors
from fastav_plugin.upstream.arguments import MASK, POSITIONS, ROTARY


class Prefill:
    """Asks the hooks at each place, and fits to their choice what each layer is called with.

    A later turn is pruned as a prompt of its own: hooks see its tokens only, and no layer loses
    what it holds of earlier turns.

    Args:
        prompt: what is pruned.
        decoder: the layers it goes through.
        on_renumbered: called with `shift` once an entrance cut has renumbered positions.
        listener: called when the pruner works, or None.

    Attributes:
        survivors: of the prompt, so far.
        observer: what attention shows queries and keys to.
        account: what choosing the survivors costs, complete once the last layer is entered.
        reason: why no hook is asked, or None.
    """

    def __init__(
        self,
        prompt: Prompt,
        decoder: Decoder,
        on_renumbered: Callable[[Tensor], None] | None = None,
        listener: PruningListener | None = None,
    ) -> None:
        self.prompt = prompt
        self.reason: Reason | None = prompt.reason
        self.survivors = Survivors(prompt.token_map, prompt.past, prompt.fingerprint)
        self._decoder = decoder
        self._listener = listener
        self._on_renumbered = on_renumbered
        self.account = Account(
            decoder.cost, prompt.token_map.rows, prompt.token_map.modality.device
        )
        self.observer = Observer(
            prompt.hooks, self.survivors, prompt.drafted, decoder.ranks, listener, self.account
        )
        self._entrance: Tensor | None = None
        self._entrance_picked = False
        self._rotary: Tensor | None = None  # int64 [B, T], rotary position of each prompt token
        #: What layers share is made once per cut: what it is, the objects it is made of, result.
        self._made: list[tuple[Any, tuple[Any, ...], Any]] = []

    @property
    def reads_attention(self) -> bool:
        """Whether some hook will read attention."""
        return self.reason is None and self.observer.needed

    def _during(self, part: str) -> AbstractContextManager[Any]:
        return nullcontext() if self._listener is None else self._listener.during(part)

    def pick_entrance(self, inputs_embeds: Tensor) -> Tensor | None:
        """Choose, before layer 0, the survivors of the cuts at ENTRANCE and on entering layer 0.

        From embeddings [B, T, C]. Bool [B, T], True where a prompt token goes on; None if all do.
        """
        with self._during("gathering"):
            self._entrance_picked = True
            # Let go of afterwards: the request it belongs to holds this prefill.
            on_renumbered, self._on_renumbered = self._on_renumbered, None
            first = self._select(ENTRANCE, inputs_embeds)
            if first is not None:
                inputs_embeds = gather(inputs_embeds, first, 1)
            self._select(0, inputs_embeds)
            self._entrance = self.survivors.index
        if self._entrance is None:
            return None
        kept = self.survivors.in_prompt()
        if self.prompt.config.positions == "renumbered":
            counted = self.survivors.start[:, None] + kept.long().cumsum(dim=1) - 1
            self._rotary = counted.clamp(min=0)
            if on_renumbered is not None:
                on_renumbered(self._shift(self._rotary))
        return kept

    def _shift(self, rotary: Tensor) -> Tensor:
        """int64 [B], what renumbering takes off the positions of later tokens."""
        more = self.survivors.length - 1 - rotary[:, -1]
        before = self.prompt.shift
        return more if before is None else before.to(more.device) + more

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def enter(
        self, layer: int, hidden_states: Tensor, arguments: dict[str, Any], kv_layer: FastAVLayer
    ) -> Tensor:
        """Make the cut on entering a layer, if any, and fit its arguments (keywords) in place.

        Hidden states [B, T, C] of the survivors come in, [B, K, C] of the kept are returned.
        """
        with self._during("gathering"):
            if layer == 0:
                if not self._entrance_picked:
                    self.pick_entrance(hidden_states)
                order = self._entrance
            else:
                order = self._select(layer, hidden_states)
            if order is not None:
                hidden_states = gather(hidden_states, order, 1)
            ticket = self._once(
                "ticket", (kv_layer.prompt,), lambda: self.survivors.ticket(kv_layer)
            )
            kv_layer.expect(ticket)
            self._fit(arguments, kv_layer, hidden_states.device)
            if self.reason is None and self.observer.enter(layer, kv_layer):
                arguments[OBSERVER] = self.observer
            if layer == self._decoder.num_layers - 1:
                self._made.clear()
                self.account.settle(self.prompt.cuttable)
        return hidden_states

    def _select(self, place: int, hidden_states: Tensor) -> Tensor | None:
        """Ask the hooks of one place; returns the index of the kept, or None for all."""
        hooks = self.prompt.hooks.get(place)
        if self.reason is not None or not hooks:
            return None
        with self._during("selection"):
            try:
                real, kept = self._ask(place, hooks, hidden_states)
            finally:
                self.observer.leave(place)
            order = self.survivors.narrow(real, self._decoder.ranks.agree(kept))
        if order is not None:
            self._made.clear()
        return order

    def _ask(
        self, place: int, hooks: LayerHookList, hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bool [B, T] each: the survivors without padding, and those that the hooks keep."""
        shown = self.observer.show(place)
        view = self.survivors.view(place, self._decoder.num_layers, hidden_states, *shown)
        real, media = view.alive.clone(), view.media
        kept = real
        for number, hook in enumerate(hooks):
            if number:
                # A view of its own, because the hook before may have written into its one.
                view = self.survivors.view(place, self._decoder.num_layers, hidden_states, *shown)
                view = replace(view, alive=kept.clone())
            missing = [
                name
                for name in ("scores", "rollout")
                if getattr(hook, f"needs_{name}") and getattr(view, name) is None
            ]
            if missing:
                raise StateError(
                    f"{type(hook).__name__} needs the attention {missing[0]} of layer {place - 1}, "
                    "which this model's attention did not hand over. Use positional hooks or "
                    "DivPrune."
                )
            wanted = _checked(_answer(hook, view), hook, view)
            if isinstance(hook, PlannableHook) and self.account.width is not None:
                keep = view.alive if wanted is None else wanted
                self.account.choose(hook.choice_macs(view, keep, self.account.width))
            if wanted is not None:
                kept = kept & self._protected(media & kept, wanted, hook.may_empty)
        return real, kept

    def _protected(self, media: Tensor, wanted: Tensor, may_empty: bool) -> Tensor:
        """Text, drafts and batch rows with few media are kept; one media token unless emptying."""
        kept = wanted | ~media | ~self.prompt.cuttable.to(media.device)[:, None]
        kept[:, kept.shape[1] - 1 - self.prompt.drafted :] = True
        if may_empty:
            return kept
        emptied = ~(media & kept).any(dim=1)
        first = media & (media.cumsum(dim=1) == 1)
        return kept | (first & emptied[:, None])

    def _fit(self, arguments: dict[str, Any], kv_layer: FastAVLayer, device: torch.device) -> None:
        """Fit a layer's arguments to the survivors and to the tokens it holds."""
        index, flash = self.survivors.index, self._decoder.flash
        if index is not None:
            rotary = index if self._rotary is None else self._rotary.gather(1, index)
            self._replace(arguments, ROTARY, lambda x: cut_rotary(x, rotary))
            self._replace(
                arguments, POSITIONS, lambda x: None if flash else cut_positions(x, rotary)
            )
            for name in self._decoder.row_arguments:
                self._replace(arguments, name, lambda x: cut_tokens(x, index))
        total = kv_layer.num_tokens + self.survivors.count
        visible = kv_layer.visible_tokens(total, self.survivors.count)
        if index is not None or kv_layer.compacted:
            held = kv_layer.held if self.prompt.past else None

            def cut(mask: Any) -> Any:
                index, valid = self.survivors.full_index(), self.survivors.held.valid
                mask = cut_mask(mask, index, valid, flash=flash, device=device, held=held)
                return mask if visible == total else last_columns(mask, visible)

            if MASK in arguments:
                mask, prompt = arguments[MASK], kv_layer.prompt
                arguments[MASK] = self._once((MASK, visible), (mask, prompt), lambda: cut(mask))
        elif visible < total and MASK in arguments:
            arguments[MASK] = last_columns(arguments[MASK], visible)

    def _replace(self, arguments: dict[str, Any], name: str, cut: Callable[[Any], Any]) -> None:
        """Replace an argument by its cut, made once for all layers that get the same."""
        if name in arguments:
            original = arguments[name]
            arguments[name] = self._once(name, (original,), lambda: cut(original))

    def _once(self, what: Any, made_of: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Make something once per cut, though every layer needs it made of the same objects."""
        for known, objects, result in self._made:
            if known == what and all(map(operator.is_, objects, made_of)):
                return result
        result = make()
        self._made.append((what, made_of, result))
        return result


def _answer(hook: LayerHook, view: LayerView) -> Any:
    """What a hook returns; an error in it says which hook it was, and where."""
    try:
        return hook(view)
    except Exception as error:
        place = "at the entrance" if view.layer == ENTRANCE else f"on entering layer {view.layer}"
        error.add_note(f"In the pruning hook {hook!r} {place}.")
        raise


def _checked(wanted: Any, hook: LayerHook, view: LayerView) -> Tensor | None:
    """A hook's answer, or a HookError that says what is wrong with it."""
    if wanted is None:
        return None
    shape = tuple(view.alive.shape)
    if not isinstance(wanted, Tensor) or wanted.dtype != torch.bool or wanted.shape != shape:
        found = (
            f"{wanted.dtype} {tuple(wanted.shape)}"
            if isinstance(wanted, Tensor)
            else type(wanted).__name__
        )
        raise HookError(
            f"{type(hook).__name__} must return bool {shape} or None at place {view.layer}, "
            f"got {found}."
        )
    return wanted.to(view.alive.device)
