"""Where each kind of processor expects the media of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.media.files import Source
from fastav_plugin.media.inputs import (
    ARGUMENTS,
    PARTS,
    as_pictures,
    at_own_rates,
    video_arguments,
)
from fastav_plugin.model_overrides.own_models.registry import own_model


@dataclass(frozen=True)
class Medium:
    """A medium that was read.

    Attributes:
        kind: "image", "video" or "audio".
        content: a PIL picture, a Video or a Sound; a Source where the layout `samples_files`.
    """

    kind: str
    content: Any


class Layout:
    """A text-only model, and what the others have in common.

    Args:
        tokenizer: of the model.

    Attributes:
        takes: the kinds of media the model takes.
        max_frames: most frames to read of a video; None for as many as are allowed.
        samples_files: whether its processor is given files and samples them itself.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.takes: frozenset[str] = frozenset()
        self.max_frames: int | None = None
        self.samples_files = False
        #: Whether the model takes a type of each token, in text-only prompts as well.
        self._types = False

    def inputs(self, pieces: Sequence[str | Medium], special: bool) -> dict[str, Any]:
        """Keywords of the model's call for one prompt, batch size 1.

        Args:
            pieces: text and media in their order.
            special: whether the tokenizer adds its special tokens.
        """
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        options = {"return_tensors": "pt", "return_token_type_ids": self._types}
        return dict(self.tokenizer(text, add_special_tokens=special, **options))


class HubLayout(Layout):
    """Processors of transformers, which put media where the text has their placeholders."""

    def __init__(self, processor: Any, config: Any) -> None:
        super().__init__(processor.tokenizer)
        self.processor = processor
        self._marks = {
            kind: mark
            for kind, part in PARTS.items()
            if getattr(processor, part, None) is not None
            and (mark := _mark(processor, config, kind)) is not None
        }
        self.takes = frozenset(self._marks)
        reader = getattr(processor, "video_processor", None)
        self.max_frames = getattr(reader, "num_frames", None)
        self._types = "token_type_ids" in processor.model_input_names

    def inputs(self, pieces: Sequence[str | Medium], special: bool) -> dict[str, Any]:
        """As Layout's."""
        media = [piece for piece in pieces if isinstance(piece, Medium)]
        if not media:
            return super().inputs(pieces, special)
        text = "".join(
            piece if isinstance(piece, str) else self._marks[piece.kind] for piece in pieces
        )
        arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        given = {kind: [m.content for m in media if m.kind == kind] for kind in self.takes}
        if given.get("image"):
            pictures = [np.asarray(picture) for picture in given["image"]]
            arguments["images"] = as_pictures(self.processor, pictures)
        if given.get("video"):
            clips = [(clip.frames, clip.fps) for clip in given["video"]]
            arguments |= video_arguments(self.processor, clips)
        if given.get("audio"):
            arguments["audio"] = [sound.waveform for sound in given["audio"]]
        inputs = dict(self.processor(**arguments, add_special_tokens=special))
        at_own_rates(inputs, [clip.fps for clip in given.get("video", [])])
        inputs.pop("labels", None)  # PaliGemma's is always ready to be trained
        return inputs


class OwnLayout(Layout):
    """Processors of this package, which take one tag for each medium and sample files themselves.

    Args:
        processor: of the model.
        takes: the kinds of media the model takes.
        several: whether a prompt may hold several media.
    """

    def __init__(self, processor: Any, takes: frozenset[str], several: bool) -> None:
        super().__init__(processor.tokenizer)
        self.processor = processor
        self.takes = takes
        self.several = several
        self.samples_files = True

    def inputs(self, pieces: Sequence[str | Medium], special: bool) -> dict[str, Any]:
        """As Layout's; the prompt has its own special tokens."""
        text = "".join(piece if isinstance(piece, str) else f"<{piece.kind}>" for piece in pieces)
        media = [piece for piece in pieces if isinstance(piece, Medium)]
        if len(media) > 1 and not self.several:
            raise UnsupportedError(f"A prompt takes one medium, got {len(media)}.")
        arguments: dict[str, Any] = {"text": [text]}
        for kind, name in ARGUMENTS.items():
            given = [_file(medium.content) for medium in media if medium.kind == kind]
            if given:
                arguments[name] = [given]
        return dict(self.processor(**arguments))


def _file(content: Any) -> Any:
    """A file as it is, or uint8 [H, W, 3] of a picture that came with the request."""
    return content if isinstance(content, Source) else np.array(content)


def find_layout(processor: Any, tokenizer: Any, config: Any) -> Layout:
    """The layout of a model's prompts.

    Args:
        processor: of its media; None for a text-only model.
        tokenizer: of its text.
        config: of the module that generate() calls.
    """
    if processor is None:
        return Layout(tokenizer)
    own = own_model(config)
    if own is None:
        return HubLayout(processor, config)
    if own.feature_extractor is not None:
        return OwnLayout(processor, frozenset({"image", "video", "audio"}), several=False)
    return OwnLayout(processor, frozenset({"video", "audio"}), several=True)


def _mark(processor: Any, config: Any, kind: str) -> str | None:
    """What stands for a medium in a prompt's text; None if the processor does not say."""
    token = getattr(processor, f"{kind}_token", None)
    if kind == "image":
        # Gemma 3 takes the token before its pictures.
        token = getattr(processor, "boi_token", None) or token
    if token is None:
        return None
    token = getattr(token, "content", token)
    around = "audio" if kind == "audio" else "vision"
    start, end = (getattr(config, f"{around}_{side}_token_id", None) for side in ("start", "end"))
    if not isinstance(start, int) or not isinstance(end, int):
        return str(token)
    words = processor.tokenizer.convert_ids_to_tokens([start, end])
    return f"{words[0]}{token}{words[1]}"
