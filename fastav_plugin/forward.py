"""One forward pass of one request: which rows are alive, and what each layer gets of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import layer_call
from fastav_plugin.errors import HookError, StateError, UnsupportedError
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerHookList, LayerView
from fastav_plugin.kv_layer import FastAVLayer, Ticket
from fastav_plugin.scoring import query_scores
from fastav_plugin.tokens import TokenMap


@dataclass(frozen=True)
class Setting:
    """What a prefill needs to know beside the prompt.

    Attributes:
        num_layers: decoder layers L.
        flash: whether the base attention takes 2-D masks.
        min_media_tokens: batch rows with fewer media tokens are not cut.
        renumbered: whether the entrance cut renumbers rotary positions.
        drafted: trailing rows that a draft added to the prompt.
    """

    num_layers: int
    flash: bool
    min_media_tokens: int
    renumbered: bool
    drafted: int


class Prefill:
    """The prompt's rows, cut from layer to layer, and the layer arguments cut along.

    Attributes:
        rows: int64 [B, K], prompt index of each row alive; None while nothing was cut. Padding
            points anywhere.
        valid: bool [B, K], False for padding; None when every row alive is real.
        reason: why no hook is asked, or None.
    """

    def __init__(self, hooks: LayerHookList, token_map: TokenMap, setting: Setting) -> None:
        self.token_map = token_map
        self.setting = setting
        self.rows: Tensor | None = None
        self.valid: Tensor | None = None
        self._hooks = {
            place: hooks.at(place, setting.num_layers)
            for place in hooks.places(setting.num_layers)
        }
        self._scores: Tensor | None = None
        self._entrance: Tensor | None = None
        self._entrance_picked = False
        self._rotary: Tensor | None = None  # int64 [B, T], rotary row of each prompt row
        self._cut_arguments: dict[tuple[str, int], tuple[Any, Any]] = {}

        real = token_map.valid
        self._start = real.long().argmax(dim=1)
        self._cuttable = token_map.media.sum(dim=1) >= max(1, setting.min_media_tokens)
        self._real = real if bool((~real).any()) else None
        self._positions = torch.arange(token_map.length, device=real.device).expand_as(real)
        if self._real is not None:
            self._positions = self._positions.masked_fill(~real, -1)
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

    def wants_scores(self, layer: int) -> bool:
        """Whether a hook on entering the next layer reads this layer's attention."""
        return self.reason is None and any(
            hook.needs_scores for hook in self._hooks.get(layer + 1, ())
        )

    def observe(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float | None, softcap: float | None
    ) -> None:
        """Score the rows alive by the query of the last prompt row; drafted rows get 0.

        Args:
            query: [B, H, K, D], as it enters attention.
            keys: [B, G, K, D].
            mask: the mask attention got.
            scaling: factor on the logits.
            softcap: cap on the logits.
        """
        seen = query.shape[2] - self.setting.drafted
        visible: Tensor | None = None
        if isinstance(mask, Tensor) and mask.dim() == 4:
            visible = mask[:, :, seen - 1, :seen]
        else:
            real = self._real if self.rows is None else self.valid
            visible = None if real is None else real[:, None, :seen].to(query.device)
        scores = query_scores(
            query[:, :, seen - 1],
            keys[:, :, :seen],
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            mask=visible,
            softcap=softcap,
        )
        self._scores = torch.nn.functional.pad(scores, (0, self.setting.drafted))

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
        self._entrance = self.rows
        if self.rows is None:
            return None
        real = torch.ones_like(self.rows, dtype=torch.bool) if self.valid is None else self.valid
        kept = torch.zeros_like(self.token_map.valid)
        # Padding points at row 0 or at a dropped row: only ever add.
        batch, place = real.nonzero(as_tuple=True)
        kept[batch, self.rows[batch, place]] = True
        if self.setting.renumbered:
            ranks = self._start[:, None] + kept.long().cumsum(dim=1) - 1
            self._rotary = ranks.clamp(min=0)
        return kept

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
        kv_layer.expect(self._ticket())
        if self.rows is not None:
            self._fit(arguments, hidden_states)
        if self.wants_scores(layer):
            arguments[layer_call.REQUEST] = self
        if layer == self.setting.num_layers - 1:
            self._cut_arguments.clear()
        return hidden_states

    def _ticket(self) -> Ticket:
        if self.rows is None:
            return Ticket(self.token_map.length, self.token_map.length, self._positions, self._real)
        positions = self._positions.gather(1, self.rows)
        if self.valid is not None:
            positions = positions.masked_fill(~self.valid, -1)
        width = positions.shape[1]
        return Ticket(width, self.token_map.length, positions, self.valid, cut=True)

    def _select(self, place: int, hidden_states: Tensor) -> Tensor | None:
        """Ask the hooks of one place; returns the index of the rows that go on, or None for all."""
        hooks = self._hooks.get(place, ())
        if self.reason is not None or not hooks:
            return None
        view = self._view(place, hidden_states)
        alive = view.alive
        for hook in hooks:
            if hook.needs_scores and view.scores is None:
                raise StateError(
                    f"{type(hook).__name__} needs the attention scores of layer {place - 1}, which "
                    "this model's attention did not hand over. Use positional hooks or DivPrune."
                )
            wanted = _checked(hook(view), hook, view)
            if wanted is not None:
                view = replace(view, alive=view.alive & self._protected(view, wanted))
        self._scores = None
        return self._narrow(alive, view.alive)

    def _view(self, place: int, hidden_states: Tensor) -> LayerView:
        tokens = self.token_map
        columns = [self._positions, tokens.modality, tokens.segment, tokens.frame]
        if self.rows is not None:
            columns = [column.gather(1, self.rows) for column in columns]
        if self.valid is not None:
            columns[0] = columns[0].masked_fill(~self.valid, -1)
        positions, modality, segment, frame = (c.to(hidden_states.device) for c in columns)
        return LayerView(
            layer=place,
            num_layers=self.setting.num_layers,
            hidden_states=hidden_states,
            positions=positions,
            start=self._start.to(hidden_states.device),
            modality=modality,
            segment=segment,
            frame=frame,
            alive=positions >= 0,
            scores=None if self._scores is None else self._scores.to(hidden_states.device),
        )

    def _protected(self, view: LayerView, wanted: Tensor) -> Tensor:
        """Text, drafts, rows with little media, and one media row per prompt always go on."""
        media = view.media
        kept = wanted | ~media | ~self._cuttable.to(media.device)[:, None]
        kept[:, kept.shape[1] - 1 - self.setting.drafted :] = True
        emptied = ~(media & kept).any(dim=1)
        first = media & (media.cumsum(dim=1) == 1)
        return kept | (first & emptied[:, None])

    def _narrow(self, alive: Tensor, kept: Tensor) -> Tensor | None:
        """Move to the rows kept: right-aligned, padding on the left, prompt padding gone."""
        counts = kept.sum(dim=1)
        lost = alive.sum() - counts.sum()
        dropped, most, least = torch.stack([lost, counts.max(), counts.min()]).tolist()
        if dropped == 0:
            return None
        order = kept.long().argsort(dim=1, stable=True)[:, kept.shape[1] - most :]
        order = order.to(self._positions.device)
        self.rows = order if self.rows is None else self.rows.gather(1, order)
        self.valid = None
        if least < most:
            places = torch.arange(most, device=counts.device)
            self.valid = (places >= (most - counts)[:, None]).to(order.device)
        self._cut_arguments.clear()
        return order

    def _fit(self, arguments: dict[str, Any], like: Tensor) -> None:
        rows = self.rows
        assert rows is not None
        rotary = rows if self._rotary is None else self._rotary.gather(1, rows)
        self._once(arguments, layer_call.ROTARY, lambda x: layer_call.cut_rotary(x, rotary))
        self._once(
            arguments,
            layer_call.MASK,
            lambda x: layer_call.cut_mask(
                x, rows, self.valid, flash=self.setting.flash, device=like.device
            ),
        )
        flash = self.setting.flash
        self._once(
            arguments,
            layer_call.POSITIONS,
            lambda x: None if flash else layer_call.cut_positions(x, rotary),
        )

    def _once(self, arguments: dict[str, Any], name: str, cut: Callable[[Any], Any]) -> None:
        """Cut an argument once per cut, though the model's loop brings it to every layer."""
        if name not in arguments:
            return
        original = arguments[name]
        key = (name, id(original))
        if key not in self._cut_arguments:
            # Holding the original keeps its id from being given to another object.
            self._cut_arguments[key] = (original, cut(original))
        arguments[name] = self._cut_arguments[key][1]

    @property
    def shift(self) -> Tensor | None:
        """int64 [B], what renumbering takes off the positions of later rows; None for nothing."""
        if self._rotary is None:
            return None
        return self.token_map.length - 1 - self._rotary[:, -1]


class Append:
    """Rows after the prompt: decoded tokens, drafts, later turns. Nothing is cut.

    Args:
        rows: rows this forward brings.
        flash: whether the base attention takes 2-D masks.
    """

    def __init__(self, rows: int, flash: bool) -> None:
        self.rows = rows
        self.flash = flash
        self._picked: dict[tuple[int, int], tuple[Any, Any]] = {}

    def enter(
        self, layer: int, hidden_states: Tensor, arguments: dict[str, Any], kv_layer: FastAVLayer
    ) -> Tensor:
        """Fit the mask, made in logical columns, to the columns one layer holds."""
        kv_layer.expect(Ticket(self.rows, self.rows))
        total = kv_layer.rows + self.rows
        seen = kv_layer.visible_rows(total, self.rows)
        mask = arguments.get(layer_call.MASK)
        past_window = kv_layer.logical_length + self.rows > (kv_layer.window or sys.maxsize)
        if kv_layer.compacted and self.flash and past_window:
            arguments[layer_call.MASK] = self._inside_window(kv_layer, seen)
        elif kv_layer.compacted:
            arguments[layer_call.MASK] = self._pick(mask, kv_layer, seen)
        elif seen < total and isinstance(mask, Tensor):
            arguments[layer_call.MASK] = mask[..., mask.shape[-1] - seen :]
        return hidden_states

    def _inside_window(self, kv_layer: FastAVLayer, seen: int) -> Tensor:
        """Flash attention counts its window in rows; after a cut that reaches too far back.

        Returns:
            Bool [B, seen], rows whose original position one new row's window holds.
        """
        assert kv_layer.window is not None
        if self.rows > 1:
            raise UnsupportedError(
                f"{self.rows} new rows past a sliding window of {kv_layer.window} under flash "
                "attention: its window counts rows, which a cut moved. Use "
                "attn_implementation='sdpa'."
            )
        position = kv_layer.logical_length
        inside = kv_layer.positions > position - kv_layer.window  # padding is at -1
        if kv_layer.valid is not None:
            inside &= kv_layer.valid
        return torch.nn.functional.pad(inside, (0, 1), value=True)[:, -seen:]

    def _pick(self, mask: Any, kv_layer: FastAVLayer, seen: int) -> Any:
        head = kv_layer.head
        assert head is not None
        key = (id(mask), id(head))
        if key not in self._picked:
            picked = layer_call.pick_columns(
                mask,
                head,
                kv_layer.head_valid,
                kv_layer.tail + self.rows,
                seen=seen,
                flash=self.flash,
            )
            self._picked[key] = (mask, picked)
        return self._picked[key][1]


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
