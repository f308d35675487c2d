"""Audio of both models: encoded before generate() repeats batch rows, then put in its places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastav_plugin.errors import TokenMapError

#: The one placeholder of a clip in the prompts of the authors' code.
REFERENCE_PLACEHOLDER = -200


class AudioGeneration:
    """Mixin of a head: generate() encodes sound once, as it does with pictures.

    Without it, beams would repeat the raw sounds one by one instead of by batch row.
    """

    #: Keywords of `get_audio_features`.
    audio_inputs: tuple[str, ...] = ()
    #: What must be given with an input, which cannot be read without.
    companions: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def check_companions(self, given: Mapping[str, Any]) -> None:
        """Refuse inputs of which a part was left out.

        Args:
            given: inputs by name; None for those that are not.

        Raises:
            TokenMapError: a part is missing.
        """
        for name, needed in self.companions.items():
            lacking = [f"`{part}`" for part in needed if given.get(part) is None]
            if given.get(name) is not None and lacking:
                raise TokenMapError(
                    f"`{name}` cannot be read without {' and '.join(lacking)}. Pass everything "
                    "that the processor returned."
                )

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        self.check_companions(model_kwargs)
        super()._validate_model_kwargs(model_kwargs)  # type: ignore[misc]

    def _prepare_multimodal_encoder_kwargs_for_generation(
        self, model_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        model_kwargs = super()._prepare_multimodal_encoder_kwargs_for_generation(  # type: ignore[misc]
            model_kwargs
        )
        inputs = {name: model_kwargs.pop(name, None) for name in self.audio_inputs}
        if inputs["input_features"] is not None:
            encode: Any = self.get_audio_features  # type: ignore[attr-defined]
            model_kwargs["mm_encoder_outputs"]["audio"] = encode(**inputs)
        return model_kwargs

    def _expand_multimodal_outputs(
        self, input_ids: Tensor, mm_encoder_output: dict[str, Any], *args: Any, **options: Any
    ) -> dict[str, Any]:
        outputs: dict[str, Any] = super()._expand_multimodal_outputs(  # type: ignore[misc]
            input_ids, mm_encoder_output, *args, **options
        )
        sounds = outputs.get("audio")
        if sounds is not None:
            config: Any = self.config  # type: ignore[attr-defined]
            counts = (input_ids == config.audio_token_id).sum(dim=1).tolist()
            times = options.get("expand_size", args[0] if args else 1)
            sounds.pooler_output = repeat_rows(sounds.pooler_output, counts, times)
        return outputs


def repeat_rows(
    features: Sequence[Tensor], counts: Sequence[int], times: int
) -> tuple[Tensor, ...]:
    """Repeat the media of each batch row together: [a, b] and [c] become a b a b c c.

    Args:
        features: [tokens, C] of each medium, in order of the batch.
        counts: tokens of each batch row.
        times: how often each batch row is repeated.
    """
    waiting = list(features)
    found: list[Tensor] = []
    for count in counts:
        mine: list[Tensor] = []
        while waiting and sum(map(len, mine)) < count:
            mine.append(waiting.pop(0))
        found += mine * times
    return tuple(found)


def place_features(embeddings: Tensor, where: Tensor, features: Any, kind: str) -> Tensor:
    """Put features in the places of their placeholders.

    Args:
        embeddings: [B, T, C].
        where: bool [B, T], the placeholders of one modality.
        features: None, or `pooler_output` holds [tokens, C] of each medium, in order of the batch.
        kind: name of the modality, for errors.

    Raises:
        TokenMapError: placeholders and features are not equally many.
    """
    tokens = torch.cat(tuple(features.pooler_output)) if features is not None else None
    found, given = int(where.sum()), 0 if tokens is None else len(tokens)
    if found != given:
        raise TokenMapError(
            f"The prompt holds {found} {kind} placeholders, but {given} {kind} features were "
            "given. Make both with one call of the processor."
        )
    if tokens is None:
        return embeddings
    return embeddings.masked_scatter(where[..., None], tokens.to(embeddings))


def refuse_reference_placeholder(input_ids: Tensor) -> None:
    """Say what to do with a prompt that was made by the authors' code.

    Raises:
        TokenMapError: an id below zero.
    """
    if bool((input_ids < 0).any()):
        raise TokenMapError(
            f"`input_ids` hold the placeholder {int(input_ids.min())}, which stands for a whole "
            "clip. Let the processor make the prompt: it writes one placeholder per media token."
        )
