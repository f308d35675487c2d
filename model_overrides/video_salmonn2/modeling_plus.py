"""video-SALMONN 2+: Qwen2.5-VL with Whisper sound between the time grids of its clips."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from fastav_plugin.model_overrides.video_salmonn2.audio_generation import (
    AudioGeneration,
    place_features,
    refuse_reference_placeholder,
)
from fastav_plugin.model_overrides.video_salmonn2.audio_tower import VideoSalmonn2PlusAudio
from fastav_plugin.model_overrides.video_salmonn2.checkpoint.published import PublishedCheckpoint
from fastav_plugin.model_overrides.video_salmonn2.clip_positions import ClipPositions
from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2PlusConfig
from fastav_plugin.upstream.arguments import cache_of
from fastav_plugin.upstream.models import from_config
from fastav_plugin.upstream.positions import stock_positions


class VideoSalmonn2PlusModel(ClipPositions, Qwen2_5_VLModel):
    """Vision tower, sound and decoder."""

    config: Any
    input_modalities: Any = ("image", "video", "audio", "text")

    def __init__(self, config: VideoSalmonn2PlusConfig) -> None:
        super().__init__(config)
        self.audio = from_config(
            VideoSalmonn2PlusAudio, config.audio_config, width=config.get_text_config().hidden_size
        )
        self.post_init()

    def get_audio_features(
        self, input_features: Tensor, segments_per_sound: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Audio tokens of sounds.

        Args:
            input_features: float [S, mel, time], segments of 30 seconds of all sounds.
            segments_per_sound: int64 [sounds].
            kwargs: not used.

        Returns:
            `pooler_output` holds [tokens, C] of each sound.
        """
        tokens = self.audio(input_features.to(self.dtype))
        sounds = tokens.split(segments_per_sound.tolist())
        found: Any = tuple(sound.flatten(0, 1) for sound in sounds)
        return BaseModelOutputWithPooling(pooler_output=found)

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        input_features: Tensor | None = None,
        segments_per_sound: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the decoder over a prompt whose placeholders are filled with media features."""
        encoded = dict(mm_encoder_outputs or {})
        sounds = encoded.pop("audio", None)
        if input_features is not None:
            assert segments_per_sound is not None
            sounds = self.get_audio_features(input_features, segments_per_sound)
        cache = cache_of(kwargs)
        first = cache is None or cache.get_seq_length() == 0
        if inputs_embeds is None and input_ids is not None and (first or sounds is not None):
            refuse_reference_placeholder(input_ids)
            inputs_embeds = self.get_input_embeddings()(input_ids)
            where = input_ids == self.config.audio_token_id
            inputs_embeds = place_features(inputs_embeds, where, sounds, "audio")
            # Qwen2.5-VL counts what it is given, and reads placeholders of what it is not as words.
            for kind, raw in (("image", pixel_values), ("video", pixel_values_videos)):
                if raw is None and encoded.get(kind) is None:
                    where = input_ids == getattr(self.config, f"{kind}_token_id")
                    place_features(inputs_embeds, where, None, kind)
        return super().forward(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            mm_encoder_outputs=encoded or None,
            **kwargs,
        )


class VideoSalmonn2PlusForConditionalGeneration(  # type: ignore[misc]
    AudioGeneration, PublishedCheckpoint, Qwen2_5_VLForConditionalGeneration
):
    """The model that generate() is called on.

    `from_pretrained` reads the authors' merged folder, their adapter on its base, and what
    `save_pretrained` wrote.
    """

    names = (
        ("visual.", "model.visual."),
        ("audio.", "model.audio."),
        ("model.visual.", "model.visual."),
        ("model.audio.", "model.audio."),
        ("model.language_model.", "model.language_model."),
        ("model.", "model.language_model."),
    )
    unused = ("*.position_ids", "*.inv_freq")

    config: Any
    config_class = VideoSalmonn2PlusConfig
    input_modalities: Any = ("image", "video", "audio", "text")
    audio_inputs = ("input_features", "segments_per_sound")
    companions: ClassVar[Any] = {
        "input_features": ("segments_per_sound",),
        "pixel_values": ("image_grid_thw",),
        "pixel_values_videos": ("video_grid_thw", "second_per_grid_ts"),
    }

    def __init__(self, config: VideoSalmonn2PlusConfig) -> None:
        # Qwen2.5-VL would make a model of its own first.
        super(Qwen2_5_VLForConditionalGeneration, self).__init__(config)
        self.model = VideoSalmonn2PlusModel(config)
        text: Any = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_audio_features(self, **inputs: Any) -> BaseModelOutputWithPooling:
        """Audio tokens of sounds; arguments as in the model."""
        found: BaseModelOutputWithPooling = self.model.get_audio_features(**inputs)
        return found

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]
    ) -> Tensor:
        input_ids = model_kwargs.get("input_ids")
        input_ids = inputs_tensor if input_ids is None or not input_ids.shape[1] else input_ids
        if input_ids.dim() == 2 and not input_ids.is_floating_point():
            cache = cache_of(model_kwargs)
            past = 0 if cache is None else cache.get_seq_length()
            if past and bool(self.model.token_kinds(input_ids[:, past:]).any()):
                later = self.model.later_positions(input_ids[:, past:], past, model_kwargs)
                counted = stock_positions(self, inputs_tensor, model_kwargs)
                earlier = counted[None, :, :past].expand(3, -1, -1)
                return torch.cat([counted[None], torch.cat([earlier, later], dim=2)])
            model_kwargs = model_kwargs | self.model.position_inputs(input_ids, model_kwargs)
        found: Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return found

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        second_per_grid_ts: Tensor | None = None,
        input_features: Tensor | None = None,
        segments_per_sound: Tensor | None = None,
        frame_ids: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As Qwen2.5-VL, with sound.

        `input_features` float [S, mel, time] are segments of 30 seconds of all sounds,
        `segments_per_sound` int64 [sounds] says how many each has. `frame_ids` int64 [B, T], the
        time grid of every media token, -1 elsewhere, is for pruning; the model does not read it.
        """
        given = {
            "input_features": input_features,
            "segments_per_sound": segments_per_sound,
            "pixel_values": pixel_values,
            "image_grid_thw": image_grid_thw,
            "pixel_values_videos": pixel_values_videos,
            "video_grid_thw": video_grid_thw,
            "second_per_grid_ts": second_per_grid_ts,
        }
        self.check_companions(given)
        outputs: CausalLMOutputWithPast = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            image_grid_thw=image_grid_thw,
            video_grid_thw=video_grid_thw,
            second_per_grid_ts=second_per_grid_ts,
            input_features=input_features,
            segments_per_sound=segments_per_sound,
            mm_encoder_outputs=mm_encoder_outputs,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return outputs
