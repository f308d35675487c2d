"""The processor of video-SALMONN 2."""

from __future__ import annotations

from typing import Any

import torch
from transformers import SiglipImageProcessor
from typing_extensions import override

from fastav_plugin.media.sound import Waveform
from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2Config
from fastav_plugin.model_overrides.video_salmonn2.layout import (
    SEGMENT_SECONDS,
    frames_at_rate,
    spread_audio,
    tokens_per_segment,
)
from fastav_plugin.model_overrides.video_salmonn2.processing.base import (
    ClipProcessor,
    Media,
    add,
    whisper_features,
)
from fastav_plugin.model_overrides.video_salmonn2.processing.clips import OpenClip
from fastav_plugin.model_overrides.video_salmonn2.processing.prompts import Row


class VideoSalmonn2Processor(ClipProcessor):
    """One frame per second, each followed by its share of the sound; then one newline.

    Args:
        image_processor: makes `pixel_values` of a frame.
        feature_extractor: makes log-mel segments.
        tokenizer: of the decoder.
        chat_template: of a conversation.
        video_token_id: placeholder of a visual token.
        audio_token_id: placeholder of an audio token.
        tokens_per_frame: visual tokens of one frame.
        tokens_per_segment: audio tokens of 30 seconds.
        video_fps: frames taken of each second.
        max_frames: most frames of a clip; a longer one is sampled evenly.
        max_speech_segments: most segments of 30 seconds of a sound.
    """

    config_class = VideoSalmonn2Config
    mix_channels = False
    cut_sound = True

    def __init__(
        self,
        image_processor: Any = None,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        video_token_id: int = 152062,
        audio_token_id: int = 152063,
        tokens_per_frame: int = 182,
        tokens_per_segment: int = 60,
        video_fps: float = 1.0,
        max_frames: int = 110,
        max_speech_segments: int = 201,
    ) -> None:
        super().__init__(image_processor, feature_extractor, tokenizer, chat_template=chat_template)
        self.video_token_id = video_token_id
        self.audio_token_id = audio_token_id
        self.tokens_per_frame = tokens_per_frame
        self.tokens_per_segment = tokens_per_segment
        self.video_fps = video_fps
        self.max_frames = max_frames
        self.max_speech_segments = max_speech_segments

    @classmethod
    @override
    def from_config(cls, config: Any, tokenizer: Any, **changes: Any) -> VideoSalmonn2Processor:
        side = config.vision_config.image_size
        settings: dict[str, Any] = {
            "image_processor": SiglipImageProcessor(size={"height": side, "width": side}),
            "feature_extractor": whisper_features(config.speech_config.num_mel_bins),
            "video_token_id": config.video_token_id,
            "audio_token_id": config.audio_token_id,
            "tokens_per_frame": config.tokens_per_frame,
            "tokens_per_segment": tokens_per_segment(
                config.speech_config.max_source_positions, config
            ),
            "video_fps": config.video_fps,
            "max_frames": config.max_frames,
            "max_speech_segments": config.max_speech_segments,
        }
        return cls(tokenizer=tokenizer, **(settings | changes))

    @property
    @override
    def longest_sound(self) -> float:
        return float(self.max_speech_segments * SEGMENT_SECONDS)

    @override
    def _place_clip(
        self, row: Row, clip: OpenClip, waveform: Waveform | None, most: int, media: Media
    ) -> None:
        indices = frames_at_rate(clip.count, clip.fps, self.video_fps, most)
        pixels = [
            self.image_processor(picture, return_tensors="pt").pixel_values
            for picture in clip.pictures(indices)
        ]
        frames, each, rest = len(indices), 0, 0
        add(media, pixel_values_videos=torch.cat(pixels), frames_per_clip=torch.tensor([frames]))
        if waveform is not None:
            spread, rest = self._add_sound(waveform, frames, clip.seconds, media)
            each = spread // frames
        first = row.next_frame
        for frame in range(first, first + frames):
            row.place(self.video_token_id, self.tokens_per_frame, frame)
            row.place(self.audio_token_id, each, frame)
        row.place(self.audio_token_id, rest, first + frames - 1)
        row.write(self._tokens("\n"))

    @override
    def _place_sound(self, row: Row, waveform: Waveform, media: Media) -> None:
        count, _ = self._add_sound(waveform, 0, 0.0, media)
        row.place(self.audio_token_id, count, row.next_frame)
        row.write(self._tokens("\n"))

    def _add_sound(
        self, waveform: Waveform, frames: int, seconds: float, media: Media
    ) -> tuple[int, int]:
        """Tokens over the frames, and after them."""
        segments = self._segments(waveform)
        tokens = len(segments) * self.tokens_per_segment
        spread = spread_audio(frames, tokens, seconds, len(segments))
        layout = torch.tensor([[spread.segments, spread.front, spread.spread]])
        add(media, input_features=segments, audio_layout=layout)
        return spread.spread, spread.rest
