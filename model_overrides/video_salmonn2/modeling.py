"""video-SALMONN 2: Qwen2 over SigLIP frames and Whisper sound, interleaved frame by frame.

Every module has the name that it has in the published checkpoints.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2ForCausalLM, Qwen2Model, SiglipVisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fastav_plugin.model_overrides.video_salmonn2.audio_generation import (
    AudioGeneration,
    place_features,
    refuse_reference_placeholder,
)
from fastav_plugin.model_overrides.video_salmonn2.checkpoint.published import PublishedCheckpoint
from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2Config
from fastav_plugin.model_overrides.video_salmonn2.layout import window_frames
from fastav_plugin.model_overrides.video_salmonn2.qformer import WindowQFormer, new_queries
from fastav_plugin.upstream.arguments import cache_of
from fastav_plugin.upstream.models import from_config


class _Tower(nn.Module):
    """SigLIP up to its last layer; its closing norm is in the checkpoints and is not used."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.vision_tower = from_config(SiglipVisionModel, config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        embedded = self.vision_tower.embeddings(pixel_values)
        found: Tensor = self.vision_tower.encoder(inputs_embeds=embedded).last_hidden_state
        return found


class VideoSalmonn2Model(Qwen2Model):
    """The decoder, and what makes visual tokens of frames."""

    config: Any
    input_modalities: Any = ("video", "audio", "text")

    def __init__(self, config: VideoSalmonn2Config) -> None:
        super().__init__(config)
        hidden = config.hidden_size
        self.vision_tower = _Tower(config.vision_config)
        self.mm_projector = nn.Sequential(
            nn.Linear(config.vision_config.hidden_size, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
        )
        # Parameters of a model itself are not initialised by transformers.
        self.image_newline = nn.Parameter(torch.randn(hidden) * hidden**-0.5)
        self.post_init()

    def get_video_features(
        self, pixel_values_videos: Tensor, frames_per_clip: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Visual tokens of clips.

        Args:
            pixel_values_videos: float [F, 3, H, W], frames of all clips.
            frames_per_clip: int64 [clips].
            kwargs: not used; generate() passes some.

        Returns:
            `pooler_output` holds [frames * tokens_per_frame, C] of each clip; every pooled row of
            a frame ends in a newline.
        """
        patches = self.vision_tower(pixel_values_videos.to(self.dtype))
        features = self.mm_projector(patches).transpose(1, 2)  # [F, C, patches]
        side = round(features.shape[2] ** 0.5)
        features = features.unflatten(2, (side, side))
        features = functional.max_pool2d(features, self.config.pool_stride)
        newline = self.image_newline.to(features)[None, :, None, None].expand(
            *features.shape[:3], 1
        )
        features = torch.cat([features, newline], dim=3)
        features = features.flatten(2).transpose(1, 2)  # [F, tokens_per_frame, C]
        clips = features.split(frames_per_clip.tolist())
        found: Any = tuple(clip.flatten(0, 1) for clip in clips)
        return BaseModelOutputWithPooling(pooler_output=found)


class VideoSalmonn2ForConditionalGeneration(  # type: ignore[misc]
    AudioGeneration, PublishedCheckpoint, Qwen2ForCausalLM
):
    """The model that generate() is called on.

    `from_pretrained` reads the authors' checkpoint folder as well as what `save_pretrained` wrote.
    """

    names = (("model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower."),)
    unused = (
        "*.position_ids",
        "*.rotary_emb.inv_freq",
        "model.vision_tower.vision_tower.head.*",
    )

    config: Any
    config_class = VideoSalmonn2Config
    input_modalities: Any = ("video", "audio", "text")
    audio_inputs = ("input_features", "audio_layout")
    companions: ClassVar[Any] = {
        "input_features": ("audio_layout",),
        "pixel_values_videos": ("frames_per_clip",),
    }

    def __init__(self, config: VideoSalmonn2Config) -> None:
        # Qwen2ForCausalLM would make a decoder of its own first.
        super(Qwen2ForCausalLM, self).__init__(config)
        hidden, width = config.hidden_size, config.speech_config.d_model
        self.model = VideoSalmonn2Model(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(hidden, config.vocab_size, bias=False)
        self.speech_encoder = from_config(WhisperEncoder, config.speech_config)
        self.ln_speech = nn.LayerNorm(width)
        self.speech_query_tokens = new_queries(config.qformer_config)
        self.speech_Qformer = WindowQFormer(config.qformer_config)
        self.speech_llama_proj = nn.Linear(config.qformer_config.hidden_size, hidden)
        self.final_linear = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.post_init()

    def get_audio_features(
        self, input_features: Tensor, audio_layout: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Audio tokens of sounds, in the number and order in which the prompt has them.

        Args:
            input_features: float [S, mel, time], segments of 30 seconds of all sounds.
            audio_layout: int64 [sounds, 3], segments, tokens in front, and tokens that these
                become when they are spread evenly over a clip's frames.
            kwargs: not used.

        Returns:
            `pooler_output` holds [tokens, C] of each sound.
        """
        segments = self._encode_segments(input_features)
        found: Any = []
        for count, front, spread in audio_layout.tolist():
            mine, segments = segments[:count], segments[count:]
            mine = (mine + self._segment_rows(mine)).flatten(0, 1)
            head, rest = mine[:front], mine[front:]
            if spread != front:
                head = functional.interpolate(head.T[None], size=spread, mode="nearest")[0].T
            found.append(torch.cat([head, rest]))
        return BaseModelOutputWithPooling(pooler_output=found)

    def _encode_segments(self, input_features: Tensor) -> Tensor:
        """[S, tokens, C] of [S, mel, time]."""
        encoded = self.speech_encoder(input_features.to(self.dtype)).last_hidden_state
        windows = window_frames(self.config.speech_config.max_source_positions, self.config)
        tokens = self.speech_Qformer(self.speech_query_tokens, self.ln_speech(encoded), *windows)
        found: Tensor = self.final_linear(self.speech_llama_proj(tokens))
        return found

    def _segment_rows(self, segments: Tensor) -> Tensor:
        """[S, 1, C], which segment tokens are of: nothing for the first, then waves of 0, 1 ..."""
        count, _, width = segments.shape
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        angles = torch.arange(count - 1)[:, None] * rates
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        return functional.pad(waves, (0, 0, 1, 0))[:, None].to(segments)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        frames_per_clip: Tensor | None = None,
        input_features: Tensor | None = None,
        audio_layout: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the decoder over a prompt whose placeholders are filled with media features.

        Raises:
            TokenMapError: placeholders and features do not fit, or a part of an input is missing.
        """
        if inputs_embeds is None:
            assert input_ids is not None
            encoded = dict(mm_encoder_outputs or {})
            given = {
                "pixel_values_videos": pixel_values_videos,
                "frames_per_clip": frames_per_clip,
                "input_features": input_features,
                "audio_layout": audio_layout,
            }
            self.check_companions(given)
            if pixel_values_videos is not None:
                assert frames_per_clip is not None
                encoded["video"] = self.model.get_video_features(
                    pixel_values_videos, frames_per_clip
                )
            if input_features is not None:
                assert audio_layout is not None
                encoded["audio"] = self.get_audio_features(input_features, audio_layout)
            cache = cache_of(kwargs)
            first = cache is None or cache.get_seq_length() == 0
            inputs_embeds = self._embed(input_ids, encoded, first)
        outputs: CausalLMOutputWithPast = super().forward(
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return outputs

    def _embed(self, input_ids: Tensor, encoded: dict[str, Any], first: bool) -> Tensor:
        """[B, T, C]; `first` says that no prompt came before, so that all must fit."""
        if first or encoded:
            refuse_reference_placeholder(input_ids)
        embeddings: Tensor = self.get_input_embeddings()(input_ids)
        if not first and not encoded:
            return embeddings
        for kind in ("video", "audio"):
            where = input_ids == getattr(self.config, f"{kind}_token_id")
            embeddings = place_features(embeddings, where, encoded.get(kind), kind)
        return embeddings
