"""A forward pass after the prompt: what each layer, which holds tokens of its own, may see."""

import sys
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.layers.held_tokens import Ticket
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.layers.masks import last_columns, pick_columns
from fastav_plugin.upstream.arguments import MASK


class Decode:
    """Decoded tokens, drafts, text-only turns: so many tokens, of which nothing is cut.

    `flash` says whether the base attention takes 2-D masks.
    """

    def __init__(self, tokens: int, flash: bool) -> None:
        self.tokens = tokens
        self.flash = flash
        self._picked: list[tuple[Any, Any, Any]] = []

    def enter(
        self, layer: int, hidden_states: Tensor, arguments: dict[str, Any], kv_layer: FastAVLayer
    ) -> Tensor:
        """Fit the mask, made for all seen tokens, to the tokens that one layer holds."""
        kv_layer.expect(Ticket(self.tokens, self.tokens))
        total = kv_layer.num_tokens + self.tokens
        visible = kv_layer.visible_tokens(total, self.tokens)
        mask = arguments.get(MASK)
        past_window = kv_layer.seen_tokens + self.tokens > (kv_layer.window or sys.maxsize)
        if kv_layer.compacted and self.flash and past_window:
            arguments[MASK] = self._inside_window(kv_layer, visible)
        elif kv_layer.compacted:
            arguments[MASK] = self._pick(mask, kv_layer, visible)
        elif visible < total and mask is not None:
            arguments[MASK] = last_columns(mask, visible)
        return hidden_states

    def _inside_window(self, kv_layer: FastAVLayer, visible: int) -> Tensor:
        """Flash attention counts its window in tokens held; after a cut that reaches too far back.

        Returns:
            Bool [B, visible], tokens whose original position the window of one new token holds.
        """
        assert kv_layer.window is not None
        if self.tokens > 1:
            raise UnsupportedError(
                f"{self.tokens} new tokens past a sliding window of {kv_layer.window} under flash "
                "attention: its window counts the tokens a layer holds, which a cut changed. Use "
                "attn_implementation='sdpa'."
            )
        inside = kv_layer.positions > kv_layer.seen_tokens - kv_layer.window  # padding is at -1
        if kv_layer.valid is not None:
            inside &= kv_layer.valid
        return torch.nn.functional.pad(inside, (0, 1), value=True)[:, -visible:]

    def _pick(self, mask: Any, kv_layer: FastAVLayer, visible: int) -> Any:
        """The columns of a mask that a layer holds, once for all layers that hold the same."""
        prompt = kv_layer.prompt
        assert prompt is not None
        for of_mask, of_prompt, picked in self._picked:
            if of_mask is mask and of_prompt is prompt:
                return picked
        appended = kv_layer.appended + self.tokens
        picked = pick_columns(mask, prompt, appended, visible=visible, flash=self.flash)
        self._picked.append((mask, prompt, picked))
        return picked
