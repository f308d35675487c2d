"""The prefill of a prompt or a later turn: which rows are alive, what each layer gets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import HookError, StateError
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers import arguments as layer_call
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.observer import Observation
from fastav_plugin.pruning.survivors import AliveRows
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import MASK, POSITIONS, ROTARY


@dataclass(frozen=True)
class Setting:
    """What a prefill needs to know beside the prompt.

    Attributes:
        num_layers: decoder layers L.
        flash: whether the base attention takes 2-D masks.
        min_media_tokens: batch rows with fewer media tokens are not cut.
        renumbered: whether the entrance cut renumbers rotary positions.
        drafted: trailing rows that a draft added to the prompt.
        past: rows brought by earlier turns; each layer holds some of them.
        shift: int64 [B], what renumbering took off positions so far.
        row_arguments: further keywords of the layers with one entry per row, [B, T].
        fingerprint: int64 [B], as in LayerView, or None.
    """

    num_layers: int
    flash: bool
    min_media_tokens: int
    renumbered: bool
    drafted: int
    past: int = 0
    shift: Tensor | None = None
    row_arguments: tuple[str, ...] = ()
    fingerprint: Tensor | None = None


class Prefill:
    """Asks the hooks at each place, and fits to their choice what each layer is called with.

    A later turn is pruned as a prompt of its own: hooks see its rows only, and no layer loses
    what it holds of earlier turns.

    Attributes:
        token_map: map of the forward's rows.
        alive: the prompt's rows still alive.
        reason: why no hook is asked, or None.
        observation: what attention shows the hooks.
    """

    def __init__(self, hooks: LayerHookList, token_map: TokenMap, setting: Setting) -> None:
        self.token_map = token_map
        self.setting = setting
        self.alive = AliveRows(token_map, setting.past, setting.fingerprint)
        self._hooks = {
            place: hooks.at(place, setting.num_layers) for place in hooks.places(setting.num_layers)
        }
        self.observation = Observation(self._hooks, self.alive, setting.drafted)
        self._entrance: Tensor | None = None
        self._entrance_picked = False
        self._rotary: Tensor | None = None  # int64 [B, T], rotary row of each prompt row
        self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

        self._cuttable = token_map.media.sum(dim=1) >= max(1, setting.min_media_tokens)
        self.reason = self._why_idle()

    def _why_idle(self) -> str | None:
        if not self._hooks:
            return "no hook was asked: the method is 'none', or asks for no layer of this model"
        if not bool(self.token_map.media.any()):
            return "the prompt holds no media tokens"
        if not bool(self._cuttable.any()):
            return (
                "no prompt of the batch has as many media tokens as `min_media_tokens` "
                f"({self.setting.min_media_tokens})"
            )
        if not bool(self.token_map.valid[:, -1].all()):
            raise StateError(
                "The prompt is padded on the right, so its last row is not its last token. "
                "Set padding_side='left' on the tokenizer or processor."
            )
        return None

    @property
    def reads_attention(self) -> bool:
        """Whether some hook will read attention."""
        return self.reason is None and self.observation.needed

    def observe(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float | None, softcap: float | None
    ) -> None:
        """Read one layer's attention; arguments as of `Observation.observe`."""
        self.observation.observe(query, keys, mask, scaling, softcap)

    def pick_entrance(self, inputs_embeds: Tensor) -> Tensor | None:
        """Choose, before layer 0, the rows of the cuts at ENTRANCE and on entering layer 0.

        Args:
            inputs_embeds: [B, T, C].

        Returns:
            Bool [B, T], True where a prompt row goes on; None if nothing goes.
        """
        self._entrance_picked = True
        first = self._select(ENTRANCE, inputs_embeds)
        if first is not None:
            inputs_embeds = layer_call.gather(inputs_embeds, first, 1)
        self._select(0, inputs_embeds)
        self._entrance = self.alive.rows
        if self._entrance is None:
            return None
        kept = self.alive.in_prompt()
        if self.setting.renumbered:
            ranks = self.alive.start[:, None] + kept.long().cumsum(dim=1) - 1
            self._rotary = ranks.clamp(min=0)
        return kept

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def enter(
        self, layer: int, hidden_states: Tensor, arguments: dict[str, Any], kv_layer: FastAVLayer
    ) -> Tensor:
        """Make the cut on entering a layer, if any, and fit its arguments in place.

        Args:
            layer: index of the layer.
            hidden_states: [B, T, C], rows alive.
            arguments: the layer's keywords.
            kv_layer: where the layer appends its keys and values.

        Returns:
            [B, K, C], the rows that go on.
        """
        if layer == 0:
            if not self._entrance_picked:
                self.pick_entrance(hidden_states)
            if self._entrance is not None:
                hidden_states = layer_call.gather(hidden_states, self._entrance, 1)
        else:
            order = self._select(layer, hidden_states)
            if order is not None:
                hidden_states = layer_call.gather(hidden_states, order, 1)
        kv_layer.expect(
            self._once(("ticket",), kv_layer.head, lambda _: self.alive.ticket(kv_layer))
        )
        self._fit(arguments, kv_layer, hidden_states.device)
        if self.reason is None and self.observation.enter(layer, kv_layer):
            arguments[layer_call.REQUEST] = self
        if layer == self.setting.num_layers - 1:
            self._made.clear()
        return hidden_states

    def _select(self, place: int, hidden_states: Tensor) -> Tensor | None:
        """Ask the hooks of one place; returns the index of the rows that go on, or None for all."""
        hooks = self._hooks.get(place)
        if self.reason is not None or not hooks:
            return None
        try:
            alive, kept = self._ask(place, hooks, hidden_states)
        finally:
            self.observation.leave(place)
        order = self.alive.narrow(alive, self.observation.ranks.agree(kept))
        if order is not None:
            self._made.clear()
        return order

    def _ask(
        self, place: int, hooks: LayerHookList, hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bool [B, T] each: the rows alive, and those that the hooks let go on."""
        shown = self.observation.show(place)
        view = self.alive.view(place, self.setting.num_layers, hidden_states, *shown)
        alive, media = view.alive.clone(), view.media
        kept = alive
        for number, hook in enumerate(hooks):
            if number:
                # A view of its own, because the hook before may have written into its one.
                view = self.alive.view(place, self.setting.num_layers, hidden_states, *shown)
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
            wanted = _checked(hook(view), hook, view)
            if wanted is not None:
                kept = kept & self._protected(media & kept, wanted, hook.may_empty)
        return alive, kept

    def _protected(self, media: Tensor, wanted: Tensor, may_empty: bool) -> Tensor:
        """Text, drafts and rows with little media go on; one media row unless a hook means it."""
        kept = wanted | ~media | ~self._cuttable.to(media.device)[:, None]
        kept[:, kept.shape[1] - 1 - self.setting.drafted :] = True
        if may_empty:
            return kept
        emptied = ~(media & kept).any(dim=1)
        first = media & (media.cumsum(dim=1) == 1)
        return kept | (first & emptied[:, None])

    def _fit(self, arguments: dict[str, Any], kv_layer: FastAVLayer, device: torch.device) -> None:
        """Fit a layer's arguments to the rows alive and to the rows it holds."""
        rows, flash = self.alive.rows, self.setting.flash
        if rows is not None:
            rotary = rows if self._rotary is None else self._rotary.gather(1, rows)
            self._replace(arguments, ROTARY, lambda x: layer_call.cut_rotary(x, rotary))
            self._replace(
                arguments,
                POSITIONS,
                lambda x: None if flash else layer_call.cut_positions(x, rotary),
            )
            for name in self.setting.row_arguments:
                self._replace(arguments, name, lambda x: layer_call.cut_kinds(x, rows))
        width = self.alive.positions.shape[1]
        total = kv_layer.rows + width
        seen = kv_layer.visible_rows(total, width)
        if rows is not None or kv_layer.compacted:
            held = (kv_layer.positions, kv_layer.valid) if self.setting.past else None
            valid = self.alive.valid
            index = self.alive.index() if rows is None else rows

            def cut(mask: Any) -> Any:
                mask = layer_call.cut_mask(
                    mask, index, valid, flash=flash, device=device, held=held
                )
                return mask if seen == total else layer_call.last_columns(mask, seen)

            self._replace(arguments, MASK, cut, kv_layer.head, seen)
        elif seen < total and MASK in arguments:
            arguments[MASK] = layer_call.last_columns(arguments[MASK], seen)

    def _replace(
        self, arguments: dict[str, Any], name: str, cut: Callable[[Any], Any], *others: Any
    ) -> None:
        """Replace an argument by its cut, made once for all layers it is the same for."""
        if name in arguments:
            arguments[name] = self._once((name, *map(id, others)), arguments[name], cut)

    def _once(self, key: tuple[Any, ...], original: Any, make: Callable[[Any], Any]) -> Any:
        """Make something of an object once per cut, though every layer gets it."""
        key = (*key, id(original))
        if key not in self._made:
            # Holding the original keeps its id from being given to another object.
            self._made[key] = (original, make(original))
        return self._made[key][1]

    @property
    def shift(self) -> Tensor | None:
        """int64 [B], what renumbering takes off the positions of later rows; None for nothing."""
        before = self.setting.shift
        if self._rotary is None:
            return before
        more = self.token_map.length - 1 - self._rotary[:, -1]
        return more if before is None else before.to(more.device) + more


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
