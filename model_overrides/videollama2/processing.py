"""Questions and media files into the inputs of generate()."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    BatchFeature,
    SiglipImageProcessor,
)
from transformers.processing_utils import ProcessorMixin
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.hub.files import local_folder
from fastav_plugin.media.files import Source
from fastav_plugin.model_overrides.videollama2.configuration import (
    FEWEST_FRAMES,
    MOST_FRAMES,
    BeatsConfig,
    VideoLlama2Config,
)
from fastav_plugin.model_overrides.videollama2.connector import connector_tokens
from fastav_plugin.model_overrides.videollama2.filter_banks import BeatsFeatureExtractor
from fastav_plugin.model_overrides.videollama2.media import (
    load_audio,
    load_clip_audio,
    load_picture,
    pick_frames,
)
from fastav_plugin.model_overrides.videollama2.official import is_official_folder
from fastav_plugin.model_overrides.videollama2.prompt import (
    CHAT_TEMPLATE,
    KINDS,
    is_chat,
    one_each,
    split_at_tag,
    tag_question,
)


@dataclass
class _Row:
    """One prompt.

    Attributes:
        kind: its tag, or None for text alone.
        media: tokens of each modality that stand for the tag, in order.
        inputs: raw media for the model, one row each.
    """

    kind: str | None = None
    media: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)


class VideoLlama2Processor(ProcessorMixin):
    """Samples frames, extracts the sound and lays out the prompt of VideoLLaMA2.

    Args:
        image_processor: of the SigLIP tower.
        feature_extractor: makes filter banks.
        tokenizer: of the decoder.
        chat_template: Jinja; None for the authors' prompt.
        num_frames: frames taken of a clip, unless a call says otherwise.
        patches_per_side: patches along an edge of a picture.
        image_token_id, video_token_id, audio_token_id: as in the model's config.
    """

    def __init__(
        self,
        image_processor: Any = None,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_frames: int = 8,
        patches_per_side: int = 27,
        image_token_id: int = 152061,
        video_token_id: int = 152062,
        audio_token_id: int = 152063,
    ) -> None:
        super().__init__(
            image_processor,
            feature_extractor,
            tokenizer,
            chat_template=chat_template or CHAT_TEMPLATE,
        )
        self.num_frames = num_frames
        self.patches_per_side = patches_per_side
        self.image_token_id = image_token_id
        self.video_token_id = video_token_id
        self.audio_token_id = audio_token_id
        free = min(image_token_id, video_token_id, audio_token_id)
        if len(tokenizer) > free:
            raise ConfigError(
                f"The tokenizer has {len(tokenizer)} tokens and the placeholders begin at {free}; "
                "they must be ids that no text uses."
            )

    @classmethod
    @override
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> Any:
        """Read a processor, from the authors' checkpoint folder or from one of our own."""
        # A folder of ours names the class of its sound part, which transformers then looks up.
        AutoFeatureExtractor.register(VideoLlama2Config, BeatsFeatureExtractor, exist_ok=True)
        if kwargs.get("subfolder"):
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        place = local_folder(pretrained_model_name_or_path, weights=False, **kwargs)
        if not is_official_folder(place):
            return super().from_pretrained(place, **kwargs)
        own: dict[str, Any] = {
            name: kwargs.pop(name) for name in ("chat_template", "num_frames") if name in kwargs
        }
        config: Any = VideoLlama2Config.from_pretrained(place)
        size = config.vision_config.image_size
        settings: dict[str, Any] = {
            "num_frames": config.num_frames,
            "patches_per_side": config.patches_per_side,
            **{f"{kind}_token_id": getattr(config, f"{kind}_token_id") for kind in KINDS},
        }
        return cls(
            SiglipImageProcessor(size={"height": size, "width": size}),
            BeatsFeatureExtractor(feature_size=config.audio_config.num_mel_bins),
            AutoTokenizer.from_pretrained(place, local_files_only=True),
            **{**settings, **own},
        )

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
        """Make model inputs of one question, or of a list, each about one medium.

        A question becomes the authors' prompt: system, medium, question. A text that already
        holds turns (made by `apply_chat_template`) is taken as it is; its tag `<video>`,
        `<image>` or `<audio>` says where the medium goes. A clip brings its own sound.

        Args:
            images: a picture (path or uint8 [H, W, 3]) for each text, or None.
            text: a question or a list of them.
            videos: a clip for each text, or None: a path, or frames [T, H, W, 3].
            audio: a sound for each text, or None: a path, or float [n] at 16 kHz. Beside a clip
                it takes the place of the clip's own.
            image: the same as `images`.
            video: the same as `videos`.
            num_frames: frames taken of a clip.
            sound: whether a clip is given with its own sound.
            sampling_rate: of `audio` in memory; 16000.
            return_tensors: "pt"; prompts of several lengths make nothing else.
            padding: prompts are always padded, on the left.
            add_special_tokens: never; the prompt has its own.

        Returns:
            input_ids and attention_mask, int64 [B, T]; pixel_values [pictures, frames, 3, S, S];
            pixel_values_videos [clips, frames, 3, S, S]; input_features [sounds, frames, bins].

        Raises:
            ConfigError: a file that cannot be read, or media that do not fit the text.
        """
        if text is None:
            raise ConfigError("`text` is missing: ask something about the medium.")
        texts: Any = list(text) if isinstance(text, list | tuple) else [text]
        if not texts or not all(isinstance(item, str) for item in texts):
            raise ConfigError(f"`text` must be a question or a list of questions, got {text!r}.")
        frames = self.num_frames if num_frames is None else num_frames
        if frames < FEWEST_FRAMES:
            raise ConfigError(f"`num_frames` must be at least {FEWEST_FRAMES}, got {frames}.")
        most = max(MOST_FRAMES, self.num_frames)
        if frames > most:
            raise ConfigError(
                f"`num_frames` must be at most {most}, got {frames}. A model trained on more says "
                "so in its config.json."
            )
        if sampling_rate not in (None, self.feature_extractor.sampling_rate):
            raise ConfigError(f"`sampling_rate` must be 16000, got {sampling_rate}. Resample.")
        stills = one_each(texts, "image", images if image is None else image)
        clips = one_each(texts, "video", videos if video is None else video)
        sounds = one_each(texts, "audio", audio)
        rows, ids = [], []
        for question, still, clip, noise in zip(texts, stills, clips, sounds, strict=True):
            row = self._read(still, clip, noise, frames, sound)
            rows.append(row)
            ids.append(self._layout(question, row))
        inputs = self._pad(ids)
        for name in ("pixel_values", "pixel_values_videos", "input_features"):
            found = [row.inputs[name] for row in rows if name in row.inputs]
            if found:
                inputs[name] = torch.stack(found)
        return BatchFeature(inputs, tensor_type=return_tensors)

    @property
    @override
    def model_input_names(self) -> list[str]:
        """Names of everything that a call may return."""
        names = ["input_ids", "attention_mask", "pixel_values", "pixel_values_videos"]
        return [*names, "input_features"]

    def video_tokens(self, frames: int) -> int:
        """Tokens of a clip or picture of `frames` frames."""
        return connector_tokens(frames, self.patches_per_side)

    @property
    def audio_tokens(self) -> int:
        """Tokens of any sound."""
        bins = self.feature_extractor.feature_size
        return BeatsConfig(num_mel_bins=bins).tokens(self.feature_extractor.frames)

    def _read(self, image: Any, video: Any, audio: Any, frames: int, sound: bool) -> _Row:
        """Decode the medium of one prompt."""
        row = _Row()
        if image is not None:
            if video is not None or audio is not None:
                raise ConfigError("A prompt takes a picture, or a clip and its sound: not both.")
            (picture,) = self._pixels([image], 1)
            row.kind, row.media = "image", {"image": self.video_tokens(frames)}
            row.inputs["pixel_values"] = picture.expand(frames, *picture.shape)
        elif video is not None:
            row.kind, row.media = "video", {"video": self.video_tokens(frames)}
            row.inputs["pixel_values_videos"] = self._pixels(pick_frames(video, frames), frames)
            own = video if sound and isinstance(video, (str, Path, Source)) else None
            source = own if audio is None else audio
            waveform = None if source is None else load_clip_audio(source)
            if waveform is not None:
                self._add_sound(row, waveform)
        elif audio is not None:
            row.kind = "audio"
            self._add_sound(row, load_audio(audio, self.feature_extractor.seconds))
        return row

    def _add_sound(self, row: _Row, waveform: Any) -> None:
        row.media["audio"] = self.audio_tokens
        row.inputs["input_features"] = self.feature_extractor(waveform)["input_features"][0]

    def _pixels(self, pictures: Any, count: int) -> Tensor:
        """Pictures as the tower takes them, black ones for those that are missing: [T, 3, S, S]."""
        found = [self._prepared(load_picture(picture)) for picture in pictures]
        if len(found) < count:
            found += [self._prepared(np.zeros((16, 16, 3), np.uint8))] * (count - len(found))
        return torch.stack(found)

    def _prepared(self, picture: Any) -> Tensor:
        """One picture as the tower takes it, [3, S, S]."""
        # A picture of one or three pixels' height would be taken for channels first.
        shape = getattr(picture, "shape", ())
        layout = {"input_data_format": "channels_last"} if tuple(shape[2:]) == (3,) else {}
        prepared = self.image_processor(images=picture, return_tensors="pt", **layout)
        return prepared.pixel_values[0]  # type: ignore[no-any-return]

    def _layout(self, question: str, row: _Row) -> list[int]:
        """Ids of one prompt, the tag spread out to one placeholder per media token."""
        text = tag_question(question, row.kind)
        if not is_chat(text):
            messages = [{"role": "user", "content": text}]
            text = self.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        # The text on each side of the medium is tokenised alone.
        ids = [
            self.tokenizer(chunk, add_special_tokens=False).input_ids if chunk else []
            for chunk in split_at_tag(text)
        ]
        media = [
            getattr(self, f"{kind}_token_id")
            for kind, count in row.media.items()
            for _ in range(count)
        ]
        return [*ids[0], *media, *(token for chunk in ids[1:] for token in chunk)]

    def _pad(self, ids: list[list[int]]) -> dict[str, Tensor]:
        longest = max(map(len, ids))
        filler = self.tokenizer.pad_token_id or 0
        return {
            "input_ids": torch.tensor([[filler] * (longest - len(row)) + row for row in ids]),
            "attention_mask": torch.tensor(
                [[0] * (longest - len(row)) + [1] * len(row) for row in ids]
            ),
        }
