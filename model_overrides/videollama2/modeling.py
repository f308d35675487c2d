"""VideoLLaMA2.1 with sound on transformers' Qwen2 and SigLIP, for generate()."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Cache,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    Qwen2Model,
    SiglipVisionModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.checkpoint_reader import (
    HUB_OPTIONS,
    fit_tensors,
    local_folder,
    own_memory,
)
from fastav_plugin.model_overrides.videollama2.beats import BeatsEncoder, check_repeat
from fastav_plugin.model_overrides.videollama2.configuration import VideoLlama2Config
from fastav_plugin.model_overrides.videollama2.connector import STCConnector, mlp
from fastav_plugin.model_overrides.videollama2.official import (
    AUDIO,
    TABLE,
    is_official_folder,
    read_official,
    unused_names,
    used_layers,
)


@dataclass
class VideoLlama2ModelOutput(ModelOutput):
    """What the model without its head gives.

    Attributes:
        last_hidden_state: [B, T, C].
        past_key_values: the cache.
        hidden_states, attentions: of the decoder, if asked for.
    """

    last_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class VideoLlama2Output(ModelOutput):
    """What the model gives.

    Attributes:
        loss: of the next token, with labels.
        logits: [B, T, vocabulary].
        past_key_values: the cache.
        hidden_states, attentions: of the decoder, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class VideoLlama2PreTrainedModel(PreTrainedModel):
    """How weights are initialised, and read from the authors' layout."""

    config_class = VideoLlama2Config
    base_model_prefix = "model"
    input_modalities: Any = ("image", "video", "audio", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Qwen2DecoderLayer", "SiglipEncoderLayer", "STCConnector"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
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
        self.vision_tower = SiglipVisionModel._from_config(vision)
        self.mm_projector = STCConnector(
            vision.hidden_size, hidden, config.connector_depth, config.connector_mlp_depth
        )
        self.audio_tower = BeatsEncoder(parts.audio_config)
        self.mm_projector_a = mlp(
            parts.audio_config.hidden_size, hidden, config.audio_projector_depth
        )
        self.language_model = Qwen2Model._from_config(parts.text_config)
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
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> VideoLlama2ModelOutput:
        """Run the decoder over text and media; arguments as in the class with a head."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ConfigError("Give exactly one of `input_ids` and `inputs_embeds`.")
        if inputs_embeds is None:
            assert input_ids is not None
            given = {"image": pixel_values, "video": pixel_values_videos, "audio": input_features}
            inputs_embeds = self._embed(input_ids, given, dict(mm_encoder_outputs or {}))
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        return VideoLlama2ModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _embed(
        self, input_ids: Tensor, given: dict[str, Tensor | None], encoded: dict[str, Any]
    ) -> Tensor:
        """Embeddings of a prompt, with each medium's features at its placeholders."""
        for kind, raw in given.items():
            if raw is not None and encoded.get(kind) is None:
                encoded[kind] = getattr(self, f"get_{kind}_features")(raw)
        encoded = {kind: output for kind, output in encoded.items() if output is not None}
        if encoded and bool((input_ids < 0).any()):
            raise ConfigError(
                f"`input_ids` holds {int(input_ids.min())}. Here every media token has an id of "
                "its own (config.video_token_id, ...): make the inputs with VideoLlama2Processor."
            )
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        for kind, output in encoded.items():
            rows = input_ids == getattr(self.config, f"{kind}_token_id")
            features = torch.cat([item.to(embeds.device) for item in output.pooler_output])
            if int(rows.sum()) != len(features):
                raise ConfigError(
                    f"The prompts hold {int(rows.sum())} {kind} tokens and the media make "
                    f"{len(features)}. Make ids and media with one call of VideoLlama2Processor."
                )
            embeds = embeds.masked_scatter(rows[..., None], features.to(embeds.dtype))
        return embeds


class VideoLlama2ForConditionalGeneration(VideoLlama2PreTrainedModel, GenerationMixin):
    """VideoLLaMA2.1 with sound, which answers questions about a clip.

    `from_pretrained` reads the authors' checkpoint folder as well as what `save_pretrained`
    wrote.
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        text: Any = config.text_config
        self.model = VideoLlama2Model(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    @override
    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    @override
    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    @override
    def get_output_embeddings(self) -> Any:
        """The head."""
        return self.lm_head

    @override
    def get_decoder(self) -> Any:
        return self.model.language_model

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> Any:
        """As VideoLlama2Model.get_video_features."""
        return self.model.get_video_features(pixel_values_videos)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """As VideoLlama2Model.get_image_features."""
        return self.model.get_image_features(pixel_values)

    def get_audio_features(self, input_features: Tensor, **kwargs: Any) -> Any:
        """As VideoLlama2Model.get_audio_features."""
        return self.model.get_audio_features(input_features)

    @override
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> VideoLlama2Output:
        """Predict the next token of each row.

        Args:
            input_ids: int64 [B, T], one placeholder id per media token.
            pixel_values: pictures, as in `get_image_features`; in the order of the rows.
            pixel_values_videos: clips [clips, frames, 3, side, side], in the order of the rows.
            input_features: sounds [sounds, frames, mel bins], in the order of the rows.
            attention_mask: [B, T], 0 for padding.
            position_ids: int64 [B, T].
            past_key_values: a cache.
            inputs_embeds: [B, T, C] in place of `input_ids`.
            labels: int64 [B, T]; -100 is ignored.
            logits_to_keep: how many last rows to make logits of; 0 for all.
            mm_encoder_outputs: what the `get_*_features` gave, by "image", "video" and "audio",
                in place of the raw media.
            kwargs: for the decoder.

        Raises:
            ConfigError: media that do not fit the placeholders.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            input_features=input_features,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        rows = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, rows])
        loss = None
        if labels is not None:
            size = self.lm_head.out_features
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=size, **kwargs)
        return VideoLlama2Output(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @classmethod
    @override
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Read a model, from the authors' checkpoint folder or from one of our own.

        Raises:
            ConfigError: the folder lacks files, or holds tensors that do not fit.
        """
        place = pretrained_model_name_or_path
        if place is None or kwargs.get("subfolder"):
            return super().from_pretrained(place, *model_args, config=config, **kwargs)
        folder = local_folder(place, **kwargs)
        if not is_official_folder(folder):
            return super().from_pretrained(folder, *model_args, config=config, **kwargs)
        if not isinstance(config, VideoLlama2Config):
            config = VideoLlama2Config.from_pretrained(folder)
        config = copy.deepcopy(config)
        for name in [name for name in kwargs if name in _SETTINGS]:
            setattr(config, name, kwargs.pop(name))
        tensors = read_official(folder, config)
        if "generation_config" not in kwargs and (folder / "generation_config.json").exists():
            kwargs["generation_config"] = GenerationConfig.from_pretrained(folder)
        weights = cls._fit(config, tensors)
        for name in (*HUB_OPTIONS, "use_safetensors"):
            kwargs.pop(name, None)
        model = super().from_pretrained(
            None, *model_args, config=config, state_dict=weights, **kwargs
        )
        loaded = model[0] if isinstance(model, tuple) else model
        loaded.config.name_or_path = str(place)
        own_memory(loaded)
        return model

    @classmethod
    def _fit(cls, config: VideoLlama2Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Exactly the model's tensors."""
        first = f"{AUDIO}encoder.layers.0.{TABLE}"
        later = [
            name
            for name in tensors
            if name.startswith(AUDIO) and name.endswith(TABLE) and name != first
        ]
        for name in later:
            check_repeat(name, tensors.get(first), tensors[name])
        with torch.device("meta"):
            empty = cls(config)
        expected = {name: tensor.shape for name, tensor in empty.state_dict().items()}
        if config.tie_word_embeddings and "lm_head.weight" not in tensors:
            del expected["lm_head.weight"]
        return fit_tensors(tensors, expected, unused=(*unused_names(config), *later))


#: Settings that from_pretrained takes for the config of an official folder.
_SETTINGS = ("num_frames", "image_token_id", "video_token_id", "audio_token_id")
