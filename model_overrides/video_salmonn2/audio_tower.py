"""The ears of 2+: Whisper's encoder with a window-level Q-Former of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2PlusAudioConfig
from fastav_plugin.model_overrides.video_salmonn2.layout import window_frames
from fastav_plugin.model_overrides.video_salmonn2.qformer import WindowQFormer, new_queries


class VideoSalmonn2PlusAudio(WhisperEncoder):
    """Whisper's encoder, read by a window-level Q-Former into audio tokens."""

    config: Any

    def __init__(self, config: VideoSalmonn2PlusAudioConfig, width: int) -> None:
        super().__init__(config)
        self.q_tokens = new_queries(config.qformer_config)
        self.qformer = WindowQFormer(config.qformer_config)
        self.audio_proj = nn.Linear(config.qformer_config.hidden_size, width)
        self.post_init()

    def forward(self, input_features: Tensor) -> Tensor:
        """[S, tokens, C] of segments of 30 seconds, float [S, mel, time]."""
        encoded = super().forward(input_features).last_hidden_state
        windows = window_frames(self.config.max_source_positions, self.config)
        found: Tensor = self.audio_proj(self.qformer(self.q_tokens, encoded, *windows))
        return found
