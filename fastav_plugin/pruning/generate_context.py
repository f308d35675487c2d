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
    def read(cls, request: Request, call: dict[str, Any], source: Tensor) -> GenerateContext:
        """Look at generate(), once; arguments and errors as of `open_prefill`."""
        batch, length = source.shape[:2]
        found = find_generate_call(cache_of(call), request.replaced_cache)
        request.replaced_cache = None
        generate = found or GenerateCall()
        drafted = max(0, call.get("logits_to_keep", 0) - 1, generate.drafted)
        # The model's call alone says what its own tokens are.
        per_token = dict.fromkeys((MASK, POSITIONS, "input_ids")) if found else {}
        return cls(
            batch,
            length,
            request.seen_tokens,
            min(drafted, length - 1),
            found is None,
            generate,
            {**generate.inputs, **per_token, **call},
        )

    @property
    def only_drafts(self) -> bool:
        """Whether all is drafts after a decoded token, of which no hook is asked."""
        return bool(self.past) and self.drafted == self.length - 1

    @property
    def mask(self) -> Tensor | None:
        """The 2-D attention mask of these tokens, [B, T], if there is one."""
        mask = self.inputs.get(MASK)
        return mask[:, -self.length :] if isinstance(mask, Tensor) and mask.dim() == 2 else None
