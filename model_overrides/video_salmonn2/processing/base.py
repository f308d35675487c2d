"""What the processors of both models share: a question and files in, inputs of generate() out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin, WhisperFeatureExtractor
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.hub.files import local_folder
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.model_overrides.video_salmonn2.checkpoint.published import model_folder
from fastav_plugin.model_overrides.video_salmonn2.layout import SEGMENT_SECONDS
from fastav_plugin.model_overrides.video_salmonn2.processing.clips import (
    OpenClip,
    open_sound,
    per_prompt,
)
from fastav_plugin.model_overrides.video_salmonn2.processing.prompts import (
    CHAT_TEMPLATE,
    Row,
    is_tag,
    pad_left,
    split_prompt,
)

#: Media inputs of a batch so far, joined along their first dimension at the end.
Media = dict[str, list[Tensor]]

#: Seconds of silence that an encoder may have put behind a sound.
CODEC_PADDING = 0.1


class ClipProcessor(ProcessorMixin):
    """Decodes clips, and lays their pictures and sound out as the model was trained on them."""

    config_class: ClassVar[Any]
    #: How the frames of a prompt are numbered for pruning; None where nothing needs the numbers.
    frames_input: ClassVar[str | None] = None
    #: Whether channels are mixed; else the first one is taken.
    mix_channels: ClassVar[bool] = True
    #: Whether a clip's sound ends with its pictures.
    cut_sound: ClassVar[bool] = False

    feature_extractor: WhisperFeatureExtractor
    tokenizer: Any
    tokens_per_segment: int
    max_frames: int

    def __init__(self, *parts: Any, chat_template: str | None = None) -> None:
        super().__init__(*parts, chat_template=chat_template or CHAT_TEMPLATE)

    @classmethod
    def from_config(cls, config: Any, tokenizer: Any, **changes: Any) -> Any:
        """A processor that suits a model's configuration."""
        raise NotImplementedError

    @classmethod
    @override
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> Any:
        """Read a processor: one of ours, or what a published folder's config.json asks for.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hub.
            kwargs: settings of the constructor to change, and arguments of transformers.
        """
        from transformers import AutoTokenizer

        place = local_folder(pretrained_model_name_or_path, weights=False, **kwargs)
        stated, _ = cls.get_processor_dict(place, **dict(kwargs))
        if stated.get("processor_class") == cls.__name__:
            return super().from_pretrained(place, **kwargs)
        own = cls.__init__.__code__.co_varnames[: cls.__init__.__code__.co_argcount]
        changes = {name: kwargs.pop(name) for name in own if name in kwargs}
        base = model_folder(place)
        config = cls.config_class.from_pretrained(base, **kwargs)
        named = place if (place / "tokenizer_config.json").exists() else base
        return cls.from_config(config, AutoTokenizer.from_pretrained(named, **kwargs), **changes)

    @override
    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        audio: Any = None,
        *,
        image: Any = None,
        video: Any = None,
        num_frames: int | None = None,
        sound: bool = True,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        padding: Any = True,
        add_special_tokens: bool = False,
    ) -> BatchFeature:
        """Make the inputs of generate().

        Args:
            images: pictures are not taken.
            text: a question, which goes after its media; or a question or a whole prompt (with
                `<|im_start|>`) that has a tag `<video>` or `<audio>` where each medium goes. A
                list of them makes a batch.
            videos: path of a clip, or a Clip; a list with one per prompt; a list of lists where
                prompts have several.
            audio: path or float32 [n] at 16 kHz, alike. In a prompt with clips, the sound of a
                clip in place of its own.
            image: the same as `images`.
            video: the same as `videos`.
            num_frames: most frames of a clip, in place of the processor's number.
            sound: whether clips are given with their sound.
            sampling_rate: of `audio` in memory; 16000.
            return_tensors: "pt"; prompts of several lengths make nothing else.
            padding: prompts are always padded, on the left.
            add_special_tokens: never; the prompt has its own.

        Raises:
            ConfigError: a file that cannot be read, or not as many tags as media.
        """
        if image is not None or images is not None:
            raise ConfigError(f"{type(self).__name__} takes clips and sounds, no pictures.")
        if num_frames is not None and num_frames < 1:
            raise ConfigError(f"`num_frames` must be at least 1, got {num_frames}.")
        if return_tensors not in (None, "pt"):
            raise ConfigError(f"`return_tensors` must be 'pt', got {return_tensors!r}.")
        if sampling_rate not in (None, SAMPLE_RATE):
            raise ConfigError(f"`sampling_rate` must be 16000, got {sampling_rate}. Resample.")
        if text is None:
            raise ConfigError("`text` is missing: ask something about the clip.")
        texts: Any = list(text) if isinstance(text, list | tuple) else [text]
        if not texts or not all(isinstance(item, str) for item in texts):
            raise ConfigError(f"`text` must be a question or a list of questions, got {text!r}.")
        media: Media = {}
        clips = per_prompt(videos if video is None else video, len(texts), "video")
        sounds = per_prompt(audio, len(texts), "audio")
        rows = [
            self._row(*row, with_sound=sound, most=num_frames or self.max_frames, media=media)
            for row in zip(texts, clips, sounds, strict=True)
        ]
        pad = self.tokenizer.pad_token_id
        padded = pad_left(rows, self.tokenizer.eos_token_id if pad is None else pad)
        frames = padded.pop("frame_ids")
        if media and self.frames_input is not None:
            padded[self.frames_input] = frames
        return BatchFeature(padded | {name: torch.cat(found) for name, found in media.items()})

    def _row(
        self,
        text: str,
        clips: list[Any],
        sounds: list[Any],
        *,
        with_sound: bool,
        most: int,
        media: Media,
    ) -> Row:
        alone, own = ([], sounds) if clips else (sounds, [])
        if own and len(own) != len(clips):
            raise ConfigError(
                f"A prompt has {len(clips)} clips and {len(own)} sounds for them. Give one "
                "sound per clip, or none to use the clips' own."
            )
        if "<|im_start|>" not in text:
            text = self._in_chat(text, len(clips), len(alone))
        row, waiting = Row(), list(zip(clips, own or [None] * len(clips), strict=True))
        for piece in split_prompt(text, len(clips), len(alone)):
            if not is_tag(piece):
                row.write(self._tokens(piece))
            elif piece == "<audio>":
                self._place_sound(row, open_sound(alone.pop(0), self.mix_channels), media)
            else:
                source, given = waiting.pop(0)
                clip = OpenClip(source)
                self._place_clip(
                    row, clip, self._sound_of(clip, given) if with_sound else None, most, media
                )
        return row

    def _sound_of(self, clip: OpenClip, given: Any) -> Waveform | None:
        """The sound of a clip: one given for it, else its own."""
        if given is None:
            # Hours of sound are refused before they are read.
            self._check_length(
                min(clip.sound_seconds, clip.seconds) if self.cut_sound else clip.sound_seconds
            )
            found = clip.sound(self.mix_channels)
        else:
            found = open_sound(given, self.mix_channels)
        if found is None or not self.cut_sound:
            return found
        return found[: round(clip.seconds * SAMPLE_RATE)]

    @property
    def longest_sound(self) -> float:
        """Seconds of sound that the model can take."""
        return math.inf

    def _check_length(self, seconds: float) -> None:
        if seconds > self.longest_sound:
            raise ConfigError(
                f"A sound of {seconds:g} seconds is too long; the model knows "
                f"{self.longest_sound:g}. Cut the clip, or pass sound=False."
            )

    def _in_chat(self, question: str, clips: int, sounds: int) -> str:
        """The whole prompt of one question; its media go first where it has no tags."""
        if not any(tag in question for tag in ("<video>", "<image>", "<audio>")):
            question = "<video>\n" * clips + "<audio>\n" * sounds + question
        turn = [{"role": "user", "content": question}]
        prompt: str = self.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return prompt

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def _segments(self, waveform: Waveform) -> Tensor:
        """Log-mel segments of 30 seconds, float32 [S, mel, time]; the last one is padded.

        Sound codecs pad the end, so a clip of exactly 30 seconds decodes to some milliseconds
        more: a rest that short opens no segment.
        """
        self._check_length(len(waveform) / SAMPLE_RATE)
        size = SEGMENT_SECONDS * SAMPLE_RATE
        whole = len(waveform) // size * size
        if whole and len(waveform) - whole < CODEC_PADDING * SAMPLE_RATE:
            waveform = waveform[:whole]
        pieces = [waveform[start : start + size] for start in range(0, len(waveform), size)]
        found = [
            self.feature_extractor(
                np.asarray(piece), sampling_rate=SAMPLE_RATE, return_tensors="pt"
            ).input_features
            for piece in pieces
        ]
        return torch.cat(found)

    def _place_clip(
        self, row: Row, clip: OpenClip, waveform: Waveform | None, most: int, media: Media
    ) -> None:
        """Write one clip into a prompt, and its pictures and sound into the media inputs.

        Args:
            row: the prompt so far.
            clip: the clip.
            waveform: its sound; None without.
            most: most frames to take of it.
            media: inputs of the batch so far.
        """
        raise NotImplementedError

    def _place_sound(self, row: Row, waveform: Waveform, media: Media) -> None:
        """The same for a sound without pictures."""
        raise NotImplementedError

    @property
    @override
    def model_input_names(self) -> list[str]:
        """Inputs that every model of the family takes."""
        return ["input_ids", "attention_mask", "pixel_values_videos", "input_features"]


def add(media: Media, **inputs: Tensor) -> None:
    """Append to the media inputs of a batch."""
    for name, tensor in inputs.items():
        media.setdefault(name, []).append(tensor)


def whisper_features(mel: int) -> WhisperFeatureExtractor:
    """Whisper's log-mel spectrograms of 30 seconds."""
    return WhisperFeatureExtractor(feature_size=mel, chunk_length=SEGMENT_SECONDS)
