"""What a request asks: text with its media in place, as the model is called with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import FastAVError, in_short
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.tgi.layouts import Layout, Medium
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.measuring import Sampling
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.media.references import Reference, split_references

logger = logging.getLogger(__name__)

#: Marks that may stand between text and the first token of a medium, and go with it.
_MARKS = 2


class PromptError(FastAVError, ValueError):
    """A request that cannot be served: its own fault, other requests go on."""


@dataclass(frozen=True)
class Prompt:
    """One request's prompt.

    Attributes:
        inputs: keywords of the model's call: `input_ids` int64 [1, T], `attention_mask`, media.
    """

    inputs: dict[str, Any]

    @property
    def ids(self) -> Tensor:
        """int64 [T]."""
        return self.inputs["input_ids"][0]  # type: ignore[no-any-return]

    def without_first(self, count: int, after: int) -> Prompt:
        """The same prompt without `count` tokens, after the first `after` ones."""
        length = len(self.ids)
        kept = torch.cat([torch.arange(after), torch.arange(after + count, length)])
        by_token = {
            name: value[:, kept]
            for name, value in self.inputs.items()
            if isinstance(value, Tensor) and tuple(value.shape) == (1, length)
        }
        return replace(self, inputs={**self.inputs, **by_token})


class PromptReader:
    """Reads requests for one model.

    Args:
        layout: how its processor lays prompts out.
        tokenizer: its tokenizer.
        config: of the module that generate() calls.
        override: knowledge about its family.
        policy: media that requests may name.
    """

    def __init__(
        self,
        layout: Layout,
        tokenizer: Any,
        config: Any,
        override: ModelOverride,
        policy: MediaPolicy,
    ) -> None:
        self.layout = layout
        self.tokenizer = tokenizer
        self.policy = policy
        self._placeholders = torch.tensor(sorted(override.placeholders(config)), dtype=torch.int64)
        #: Ids from here on have no logit.
        self.vocabulary = int(override.text_config(config).vocab_size)

    def read(self, request: Any) -> Prompt:
        """The prompt of one request.

        Args:
            request: TGI's protobuf Request; its text and pictures come in chunks.

        Raises:
            PromptError, MediaError: the request is at fault.
        """
        try:
            chunks = _chunks(request)
            budget = MediaBudget(self.policy)
            pieces = [piece for chunk in chunks for piece in self._pieces(*chunk, budget)]
            special, most = bool(request.add_special_tokens), int(request.truncate)
            return self._fit(pieces, special, most, lenient=_warms_up(chunks))
        except FastAVError as error:
            if isinstance(error, ValueError):
                raise
            raise PromptError(str(error)) from error
        except Exception as error:  # processors raise anything; a shard must outlive all of it
            first = in_short(error)
            raise PromptError(
                f"The prompt cannot be prepared ({type(error).__name__}): {first}"
            ) from error

    def _pieces(self, kind: str, content: Any, budget: MediaBudget) -> list[str | Medium]:
        """One chunk as text and media."""
        takes = self.layout.takes
        if kind == "image":
            if "image" in takes:
                return [Medium("image", budget.picture(content))]
            # The router sends pictures of its own to every model, to warm it up.
            logger.debug("A picture was left out: the model takes none.")
            return []
        if not takes:
            return [content]  # a text-only model takes a link as text
        return [
            self._load(piece, budget) if isinstance(piece, Reference) else piece
            for piece in split_references(content)
        ]

    def _load(self, reference: Reference, budget: MediaBudget) -> Medium:
        takes = self.layout.takes
        if reference.kind not in takes:
            raise PromptError(
                f"This model takes no {reference.kind}, only {', '.join(sorted(takes))}."
            )
        if self.layout.samples_files:
            return Medium(reference.kind, budget.source(reference))
        return Medium(
            reference.kind, budget.load(reference, Sampling(max_frames=self.layout.max_frames))
        )

    def _fit(
        self, pieces: list[str | Medium], special: bool, most: int, *, lenient: bool
    ) -> Prompt:
        """The prompt, its oldest words left out where it is longer than `most` (0: no limit).

        No medium is cut: it is an error, or `lenient`ly the medium is left out whole.
        """
        prompt = self._make(pieces, special)
        while most and len(prompt.ids) > most:
            length = len(prompt.ids)
            bos = int(special and length > 1 and self._begins(prompt.ids))
            media = torch.isin(prompt.ids, self._placeholders).nonzero().flatten()
            room = length - bos if not len(media) else int(media[0]) - _MARKS - bos
            if length - most <= room:
                return prompt.without_first(length - most, bos)
            first = next(
                (place for place, piece in enumerate(pieces) if isinstance(piece, Medium)), None
            )
            if first is None or not lenient:
                raise PromptError(
                    f"The prompt has {length} tokens with its media and is to be truncated to "
                    f"{most}, which would cut into a medium. Send less, raise `truncate`, or start "
                    "the server with more --max-input-tokens."
                )
            pieces = [*pieces[:first], *pieces[first + 1 :]]
            prompt = self._make(pieces, special)
        return prompt

    def _begins(self, ids: Tensor) -> bool:
        return int(ids[0]) == getattr(self.tokenizer, "bos_token_id", None)

    def _make(self, pieces: Sequence[str | Medium], special: bool) -> Prompt:
        inputs = self.layout.inputs(pieces, special)
        prompt = Prompt(inputs)
        if not len(prompt.ids):
            raise PromptError("The prompt is empty.")
        if not any(isinstance(piece, Medium) for piece in pieces):
            named = prompt.ids[torch.isin(prompt.ids, self._placeholders)]
            if len(named):
                token = self.tokenizer.decode(named[:1])
                raise PromptError(
                    f"The text holds the placeholder '{token}' of a medium that was not given. "
                    "Name the medium, or leave the placeholder out."
                )
        return prompt


def _chunks(request: Any) -> list[tuple[str, Any]]:
    """Kind and content of each part of a request: ("text", str) or ("image", bytes)."""
    found = []
    for chunk in request.input_chunks.chunks:
        kind = chunk.WhichOneof("chunk")
        found.append((kind, chunk.text if kind == "text" else chunk.image.data))
    return found or [("text", request.inputs)]


def _warms_up(chunks: list[tuple[str, Any]]) -> bool:
    """Whether a request is the router's own at start, whose picture may not fit its length."""
    texts = [content for kind, content in chunks if kind == "text"]
    return any(texts) and not any(text.replace("_test ", "") for text in texts)
