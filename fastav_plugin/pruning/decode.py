"""Rows after the prompt: what each layer, which holds rows of its own, gets of the mask."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.layers import arguments as layer_call
from fastav_plugin.layers.kv_layer import FastAVLayer, Ticket
from fastav_plugin.upstream.arguments import MASK


class Append:
    """Rows after the prompt: decoded tokens, drafts, later turns. Nothing is cut.

    Args:
        rows: rows this forward brings.
        flash: whether the base attention takes 2-D masks.
    """

    def __init__(self, rows: int, flash: bool) -> None:
        self.rows = rows
        self.flash = flash
        self._picked: list[tuple[Any, Tensor, Any]] = []

    def enter(
        self, layer: int, hidden_states: Tensor, arguments: dict[str, Any], kv_layer: FastAVLayer
    ) -> Tensor:
        """Fit the mask, made in logical columns, to the columns one layer holds."""
        kv_layer.expect(Ticket(self.rows, self.rows))
        total = kv_layer.rows + self.rows
        seen = kv_layer.visible_rows(total, self.rows)
        mask = arguments.get(MASK)
        past_window = kv_layer.logical_length + self.rows > (kv_layer.window or sys.maxsize)
        if kv_layer.compacted and self.flash and past_window:
            arguments[MASK] = self._inside_window(kv_layer, seen)
        elif kv_layer.compacted:
            arguments[MASK] = self._pick(mask, kv_layer, seen)
        elif seen < total and mask is not None:
            arguments[MASK] = layer_call.last_columns(mask, seen)
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
        for of_mask, of_head, picked in self._picked:
            if of_mask is mask and of_head is head:
                return picked
        picked = layer_call.pick_columns(
            mask,
            head,
            kv_layer.head_valid,
            kv_layer.tail + self.rows,
            seen=seen,
            flash=self.flash,
        )
        self._picked.append((mask, head, picked))
        return picked
