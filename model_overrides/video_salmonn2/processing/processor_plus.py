"""The processor of video-SALMONN 2+."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2VLVideoProcessor
from typing_extensions import override

from fastav_plugin.media.sound import Waveform
from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2PlusConfig
from fastav_plugin.model_overrides.video_salmonn2.layout import (
    audio_of_grids,
    frames_in_bounds,
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

#: Share of the pixels of a whole clip that one with fewer frames than the most may use.
_SHARE = 0.95


class VideoSalmonn2PlusProcessor(ClipProcessor):
    """Ten frames per second, two to a time grid, each grid followed by its share of the sound.

    Args:
        video_processor: makes patches of two frames.
        feature_extractor: makes log-mel segments.
        tokenizer: of the decoder.
        chat_template: of a conversation.
        video_token_id: placeholder of a visual token.
        audio_token_id: placeholder of an audio token.
        vision_start_token_id: stands before a clip or sound.
        vision_end_token_id: stands after it.
        tokens_per_segment: audio tokens of 30 seconds.
        video_fps: frames taken of each second.
        min_frames: fewest frames of a clip that has so many.
        max_frames: most frames.
        max_pixels: most pixels of a frame where a clip has `max_frames`; with fewer frames each
            may have more.
    """

    config_class = VideoSalmonn2PlusConfig
    frames_input = "frame_ids"

    def __init__(
        self,
        video_processor: Any = None,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        video_token_id: int = 151656,
        audio_token_id: int = 151665,
        vision_start_token_id: int = 151652,
        vision_end_token_id: int = 151653,
        tokens_per_segment: int = 60,
        video_fps: float = 10.0,
        min_frames: int = 16,
        max_frames: int = 768,
        max_pixels: int = 61_250,
    ) -> None:
        super().__init__(video_processor, feature_extractor, tokenizer, chat_template=chat_template)
        self.video_token_id = video_token_id
        self.audio_token_id = audio_token_id
        self.vision_start_token_id = vision_start_token_id
        self.vision_end_token_id = vision_end_token_id
        self.tokens_per_segment = tokens_per_segment
        self.video_fps = video_fps
        self.min_frames = min_frames
        self.max_frames = max_frames
        self.max_pixels = max_pixels

    @classmethod
    @override
    def from_config(cls, config: Any, tokenizer: Any, **changes: Any) -> VideoSalmonn2PlusProcessor:
        vision, audio = config.vision_config, config.audio_config
        settings: dict[str, Any] = {
            "video_processor": Qwen2VLVideoProcessor(
                patch_size=vision.patch_size,
                temporal_patch_size=vision.temporal_patch_size,
                merge_size=vision.spatial_merge_size,
            ),
            "feature_extractor": whisper_features(audio.num_mel_bins),
            "tokens_per_segment": tokens_per_segment(audio.max_source_positions, audio),
        }
        names = ["video_token_id", "audio_token_id", "vision_start_token_id", "video_fps"]
        names += ["vision_end_token_id", "min_frames", "max_frames", "max_pixels"]
        settings |= {name: getattr(config, name) for name in names}
        return cls(tokenizer=tokenizer, **(settings | changes))

    @override
    def _place_clip(
        self, row: Row, clip: OpenClip, waveform: Waveform | None, most: int, media: Media
    ) -> None:
        bounds = (min(most, self.min_frames), most)
        indices = frames_in_bounds(clip.seconds, clip.count, self.video_fps, bounds)
        patches, (height, width) = self._patches(clip, indices)
        together = self.video_processor.temporal_patch_size
        grids = -(-len(indices) // together)
        seconds = together * clip.seconds / len(indices)
        add(
            media,
            pixel_values_videos=patches,
            video_grid_thw=torch.tensor([[grids, height, width]]),
            second_per_grid_ts=torch.tensor([seconds]),
        )
        counts = [0] * grids
        if waveform is not None:
            counts = audio_of_grids(grids, self._add_sound(waveform, media), seconds)
        row.write([self.vision_start_token_id])
        first = row.next_frame
        size = height * width // self.video_processor.merge_size**2
        for grid, count in enumerate(counts, start=first):
            row.place(self.video_token_id, size, grid)
            row.place(self.audio_token_id, count, grid)
        row.write([self.vision_end_token_id])

    @override
    def _place_sound(self, row: Row, waveform: Waveform, media: Media) -> None:
        row.write([self.vision_start_token_id])
        first = row.next_frame
        # A sound alone has no grids; its frames are seconds.
        for token in range(self._add_sound(waveform, media)):
            row.place(self.audio_token_id, 1, first + token // 2)
        row.write([self.vision_end_token_id])

    def _add_sound(self, waveform: Waveform, media: Media) -> int:
        segments = self._segments(waveform)
        add(media, input_features=segments, segments_per_sound=torch.tensor([len(segments)]))
        return len(segments) * self.tokens_per_segment

    def _patches(self, clip: OpenClip, indices: list[int]) -> tuple[Tensor, tuple[int, int]]:
        """Patches [n, pixels] of the frames, and patches of a grid, high and wide.

        Frames are shrunk as they come, so that a long clip is never held in full size.
        """
        processor = self.video_processor
        pixels = float(self.max_pixels)
        if len(indices) < self.max_frames:
            pixels *= _SHARE * self.max_frames / len(indices)
        low = 4 * (processor.patch_size * processor.merge_size) ** 2
        size = {"shortest_edge": low, "longest_edge": max(low, int(pixels))}
        found, grid = [], torch.zeros(3)
        frames = clip.pictures(indices)
        while pair := list(itertools.islice(frames, processor.temporal_patch_size)):
            stacked = torch.from_numpy(np.stack(pair)).permute(0, 3, 1, 2)  # [T, 3, H, W]
            made = processor(
                videos=[stacked],
                size=size,
                do_sample_frames=False,
                cap_pixels_per_frame=False,
                return_tensors="pt",
            )
            found.append(made.pixel_values_videos)
            grid = made.video_grid_thw[0]
        return torch.cat(found), (int(grid[1]), int(grid[2]))
