"""What the call around a forward pass says about its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastav_plugin.pruning.request import Request
from fastav_plugin.upstream.arguments import MASK, POSITIONS, cache_of
from fastav_plugin.upstream.generation import GenerateCall, find_generate_call


@dataclass(frozen=True, eq=False)
class GenerateContext:
    """What the call around a forward pass says about its tokens.

    Attributes:
        batch: batch rows B.
        length: tokens T of each, padding and drafts included.
        past: seen tokens before them.
        drafted: trailing tokens that a draft added.
        generate: the generate() around it; None for a direct call of the model.
        inputs: keywords of the model's call, and of that generate().
    """

    batch: int
    length: int
    past: int
    drafted: int
    generate: GenerateCall | None
    inputs: Mapping[str, Any]

    @classmethod
    def read(cls, request: Request, call: dict[str, Any], source: Tensor) -> GenerateContext:
        """Look at generate(), once.

        Args:
            request: of the cache.
            call: keywords of the head's call.
            source: what the text model is called with, [B, T] ids or [B, T, C] embeddings.

        Raises:
            UnsupportedError: the installed release's generate() keeps its variables otherwise.
        """
        batch, length = source.shape[:2]
        generate = find_generate_call(cache_of(call), request.replaced_cache)
        request.replaced_cache = None
        drafted = max(0, call.get("logits_to_keep", 0) - 1)
        inputs: Mapping[str, Any] = call
        if generate is not None:
            drafted = max(drafted, generate.drafted)
            # The model's call alone says what its own tokens are.
            per_token = dict.fromkeys((MASK, POSITIONS, "input_ids"))
            inputs = {**generate.inputs, **per_token, **call}
        return cls(batch, length, request.seen_tokens, min(drafted, length - 1), generate, inputs)

    @property
    def only_drafts(self) -> bool:
        """Whether all is drafts after a decoded token, of which no hook is asked."""
        return bool(self.past) and self.drafted == self.length - 1

    @property
    def assisted(self) -> bool:
        """Whether drafts may come, in this forward or a later one."""
        return self.generate is not None and self.generate.assisted

    @property
    def expansion(self) -> int:
        """Batch rows made of each prompt, for beams or several returned sequences."""
        return 1 if self.generate is None else self.generate.expansion

    @property
    def mask(self) -> Tensor | None:
        """The 2-D attention mask of these tokens, [B, T], if there is one."""
        mask = self.inputs.get(MASK)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            return None
        return mask[:, -self.length :]
