"""What is read of a prompt, or of a later turn: the call around it, and what hooks are asked of."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import MASK, POSITIONS, cache_of
from fastav_plugin.upstream.generation import GenerateCall, find_generate_call


class Reason(IntEnum):
    """Why nothing of a prompt was pruned; 0 is left for prompts that were."""

    NO_HOOKS = 1
    NO_MEDIA = 2
    FEW_MEDIA = 3
    EMBEDDINGS = 4

    def sentence(self, min_media_tokens: int) -> str:
        """What reports say, for a config's `min_media_tokens`."""
        return {
            Reason.NO_HOOKS: "the method is 'none' or cuts at no layer of this model",
            Reason.NO_MEDIA: "the prompt holds no media tokens",
            Reason.FEW_MEDIA: "no prompt of the batch has as many media tokens as "
            f"`min_media_tokens` ({min_media_tokens})",
            Reason.EMBEDDINGS: "the prompt came as embeddings: pass a TokenMap to FastAVCache",
        }[self]

    @classmethod
    def of_sentence(cls, sentence: str) -> "Reason":
        """The reason that a report says, whatever its `min_media_tokens`."""
        numbers = re.compile(r"\d+")
        sentences = {numbers.sub("", reason.sentence(0)): reason for reason in cls}
        return sentences[numbers.sub("", sentence)]


@dataclass(frozen=True, eq=False)
class GenerateContext:
    """What the call around a forward pass says about its tokens.

    Attributes:
        batch: batch rows B.
        length: tokens T of each, padding and drafts included.
        past: seen tokens before them.
        drafted: trailing tokens that a draft added.
        direct: whether no generate() is around it.
        generate: the generate() around it, or what a direct call is like.
        inputs: keywords of the model's call, and of that generate().
    """

    batch: int
    length: int
    past: int
    drafted: int
    direct: bool
    generate: GenerateCall
    inputs: Mapping[str, Any]

    @classmethod
    def read(
        cls, call: dict[str, Any], source: Tensor, past: int, replaced: Any
    ) -> "GenerateContext":
        """Look at generate(), once; `replaced` is the cache of its own, others as in a prefill."""
        batch, length = source.shape[:2]
        found = find_generate_call(cache_of(call), replaced)
        generate = found or GenerateCall()
        drafted = max(0, call.get("logits_to_keep", 0) - 1, generate.drafted)
        # The model's call alone says what its own tokens are.
        per_token = dict.fromkeys((MASK, POSITIONS, "input_ids")) if found else {}
        inputs = {**generate.inputs, **per_token, **call}
        drafted = min(drafted, length - 1)
        return cls(batch, length, past, drafted, found is None, generate, inputs)

    @property
    def only_drafts(self) -> bool:
        """Whether all is drafts after a decoded token, of which no hook is asked."""
        return bool(self.past) and self.drafted == self.length - 1

    @property
    def mask(self) -> Tensor | None:
        """The 2-D attention mask of these tokens, [B, T], if there is one."""
        mask = self.inputs.get(MASK)
        return mask[:, -self.length :] if isinstance(mask, Tensor) and mask.dim() == 2 else None


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
