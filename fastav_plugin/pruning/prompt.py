"""A prompt, or a later turn, that hooks are asked about."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.pruning.reasons import Reason
from fastav_plugin.tokens import TokenMap


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt, or a later turn, that hooks are asked about.

    Attributes:
        token_map: map of its tokens, [B, T].
        config: the request's settings.
        hooks: those of each place where some are asked.
        past: seen tokens before it; each layer holds some of them.
        drafted: trailing tokens that a draft added.
        shift: int64 [B], what renumbering took off positions so far.
        fingerprint: int64 [B], as in LayerView, or None.
    """

    token_map: TokenMap
    config: FastAVConfig
    hooks: Mapping[int, LayerHookList]
    past: int = 0
    drafted: int = 0
    shift: Tensor | None = None
    fingerprint: Tensor | None = None

    @functools.cached_property
    def cuttable(self) -> Tensor:
        """Bool [B], batch rows with enough media tokens to be cut."""
        return self.token_map.media.sum(dim=1) >= max(1, self.config.min_media_tokens)

    @functools.cached_property
    def reason(self) -> Reason | None:
        """Why no hook is asked; None if some are."""
        if not self.hooks:
            return Reason.NO_HOOKS
        if not bool(self.token_map.media.any()):
            return Reason.NO_MEDIA
        return None if bool(self.cuttable.any()) else Reason.FEW_MEDIA

    def check_padding(self) -> None:
        """Raise StateError if it is padded on the right: its last position is then no token."""
        if self.reason is None and not bool(self.token_map.valid[:, -1].all()):
            raise StateError(
                "The prompt is padded on the right, so its last position is not its last token. "
                "Set padding_side='left' on the tokenizer or processor."
            )


def hooks_by_place(hooks: LayerHookList, num_layers: int) -> dict[int, LayerHookList]:
    """The hooks that each place asks, of a model with so many layers."""
    return {place: hooks.at(place, num_layers) for place in hooks.places(num_layers)}
