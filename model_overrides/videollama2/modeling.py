"""VideoLLaMA2.1 with sound on transformers' Qwen2 and SigLIP, up to its head."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Qwen2Model,
    SiglipVisionModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.videollama2.beats import BeatsEncoder
from fastav_plugin.model_overrides.videollama2.configuration import VideoLlama2Config
from fastav_plugin.model_overrides.videollama2.connector import STCConnector, mlp
from fastav_plugin.model_overrides.videollama2.official import used_layers
from fastav_plugin.model_overrides.videollama2.prompt import KINDS
from fastav_plugin.upstream.arguments import cache_of
from fastav_plugin.upstream.models import from_config


class VideoLlama2PreTrainedModel(PreTrainedModel):
    """How weights are initialised, and what transformers may do with them."""

    config_class = VideoLlama2Config
    base_model_prefix = "model"
    input_modalities: Any = ("image", "video", "audio", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Qwen2DecoderLayer", "SiglipEncoderLayer", "STCConnector"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        if hasattr(module, "weight_g"):
            init.normal_(module.weight_v, std=0.02)
            init.ones_(module.weight_g)
            init.zeros_(module.bias)
        elif hasattr(module, "grep_a"):
            init.ones_(module.grep_a)


class VideoLlama2Model(VideoLlama2PreTrainedModel):
    """Towers, connectors and decoder, without the head."""

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        parts: Any = config
        vision = copy.deepcopy(parts.vision_config)
        vision.num_hidden_layers = used_layers(config)
        vision.vision_use_head = False
        hidden = parts.text_config.hidden_size
        self.vision_tower = from_config(SiglipVisionModel, vision)
        self.mm_projector = STCConnector(
            vision.hidden_size, hidden, config.connector_depth, config.connector_mlp_depth
        )
        self.audio_tower = BeatsEncoder(parts.audio_config)
        self.mm_projector_a = mlp(
            parts.audio_config.hidden_size, hidden, config.audio_projector_depth
        )
        self.language_model = from_config(Qwen2Model, parts.text_config)
        self.post_init()

    @override
    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    @override
    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_video_features(
        self, pixel_values_videos: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: [clips, frames, 3, side, side].
            kwargs: not used; generate() passes some.

        Returns:
            `pooler_output` is a list of one [tokens, C] per clip.
        """
        patches = self._see(pixel_values_videos.flatten(0, 1))
        clips = patches.unflatten(0, pixel_values_videos.shape[:2])
        return BaseModelOutputWithPooling(pooler_output=list(self.mm_projector(clips)))  # type: ignore[arg-type]

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode pictures, each as a clip in which it stands still.

        Args:
            pixel_values: [pictures, 3, side, side] for clips of `config.num_frames` frames, or
                [pictures, frames, 3, side, side] with equal frames.
            kwargs: not used; generate() passes some.

        Returns:
            `pooler_output` is a list of one [tokens, C] per picture.
        """
        still = pixel_values.dim() == 5
        steps = (pixel_values.shape[1] if still else self.config.num_frames) // 2
        patches = self._see(pixel_values[:, 0] if still else pixel_values)
        # Every pair of equal frames gives the same tokens.
        tokens = self.mm_projector(patches[:, None].expand(-1, 2, -1, -1)).repeat(1, steps, 1)
        return BaseModelOutputWithPooling(pooler_output=list(tokens))  # type: ignore[arg-type]

    def get_audio_features(
        self, input_features: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode sounds.

        Args:
            input_features: [sounds, frames, mel bins], Kaldi filter banks.
            kwargs: not used.

        Returns:
            `pooler_output` is a list of one [tokens, C] per sound.
        """
        tokens = self.mm_projector_a(self.audio_tower(input_features))
        return BaseModelOutputWithPooling(pooler_output=list(tokens))  # type: ignore[arg-type]

    def _see(self, pictures: Tensor) -> Tensor:
        """Patches of pictures as the connector takes them: [pictures, patches, width]."""
        tower: Any = self.vision_tower
        states = tower.embeddings(pictures.to(tower.dtype))
        patches: Tensor = tower.encoder(inputs_embeds=states).last_hidden_state
        return patches

    @override
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over text and media; arguments as in the class with a head."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ConfigError("Give exactly one of `input_ids` and `inputs_embeds`.")
        if inputs_embeds is None:
            assert input_ids is not None
            given = {"image": pixel_values, "video": pixel_values_videos, "audio": input_features}
            cache = cache_of(kwargs)
            first = cache is None or cache.get_seq_length() == 0
            inputs_embeds = self._embed(input_ids, given, dict(mm_encoder_outputs or {}), first)
        outputs: BaseModelOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **kwargs,
        )
        return outputs

    def _embed(
        self,
        input_ids: Tensor,
        given: dict[str, Tensor | None],
        encoded: dict[str, Any],
        first: bool = True,
    ) -> Tensor:
        """Embeddings of a prompt, with each medium's features at its placeholders.

        `first` says that no prompt came before, so that all placeholders must have features.
        """
        for kind, raw in given.items():
            if raw is not None and encoded.get(kind) is None:
                encoded[kind] = getattr(self, f"get_{kind}_features")(raw)
        encoded = {kind: output for kind, output in encoded.items() if output is not None}
        if not first and not encoded:
            embeds: Tensor = self.get_input_embeddings()(input_ids)
            return embeds
        if bool((input_ids < 0).any()):
            raise ConfigError(
                f"`input_ids` holds {int(input_ids.min())}. Here every media token has an id of "
                "its own (config.video_token_id, ...): make the inputs with VideoLlama2Processor."
            )
        embeds = self.get_input_embeddings()(input_ids)
        for kind in KINDS:
            places = input_ids == getattr(self.config, f"{kind}_token_id")
            items = encoded[kind].pooler_output if kind in encoded else ()
            held, made = int(places.sum()), sum(map(len, items))
            if held != made:
                raise ConfigError(
                    f"The prompts hold {held} {kind} tokens and the media make {made}. Make ids "
                    "and media with one call of VideoLlama2Processor, and pass both."
                )
            if made:
                features = torch.cat([item.to(embeds.device) for item in items])
                embeds = embeds.masked_scatter(places[..., None], features.to(embeds.dtype))
        return embeds
