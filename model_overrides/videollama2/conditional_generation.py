"""VideoLLaMA2.1 with sound, for generate(); read from the authors' folder or from our own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.hub.files import HUB_OPTIONS, local_folder
from fastav_plugin.model_overrides.own_models.checkpoint import (
    own_memory,
    refuse_loaded_misfits,
)
from fastav_plugin.model_overrides.videollama2.configuration import VideoLlama2Config
from fastav_plugin.model_overrides.videollama2.modeling import (
    VideoLlama2Model,
    VideoLlama2PreTrainedModel,
)
from fastav_plugin.model_overrides.videollama2.official import is_official_folder
from fastav_plugin.model_overrides.videollama2.official_weights import fit_official, read_official
from fastav_plugin.upstream.arguments import cache_in, output_name

#: Settings that from_pretrained takes for the config of an official folder.
_SETTINGS = ("num_frames", "image_token_id", "video_token_id", "audio_token_id")


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
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predict the next token of each batch row.

        Args:
            input_ids: int64 [B, T], one placeholder id per media token.
            pixel_values: pictures, as in `get_image_features`; in the order of the batch.
            pixel_values_videos: clips [clips, frames, 3, side, side], in the order of the batch.
            input_features: sounds [sounds, frames, mel bins], in the order of the batch.
            attention_mask: [B, T], 0 for padding.
            position_ids: int64 [B, T].
            inputs_embeds: [B, T, C] in place of `input_ids`.
            labels: int64 [B, T]; -100 is ignored.
            logits_to_keep: how many last positions to make logits of; 0 for all.
            mm_encoder_outputs: what the `get_*_features` gave, by "image", "video" and "audio",
                in place of the raw media.
            kwargs: for the decoder, its cache among them.

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
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        last = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, last])
        loss = None
        if labels is not None:
            size = self.lm_head.out_features
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{output_name(): cache_in(outputs)},
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
            ConfigError: the folder lacks files, holds tensors that do not fit, or an adapter.
        """
        place = pretrained_model_name_or_path
        if place is None:
            return super().from_pretrained(None, *model_args, config=config, **kwargs)
        folder = local_folder(place, **kwargs) / (kwargs.pop("subfolder", None) or "")
        _refuse_adapter(folder, kwargs.pop("adapter_kwargs", None))
        if not is_official_folder(folder):
            return cls._read_plain(folder, *model_args, config=config, **kwargs)
        if not isinstance(config, VideoLlama2Config):
            config = VideoLlama2Config.from_pretrained(folder)
        config = copy.deepcopy(config)
        for name in [name for name in kwargs if name in _SETTINGS]:
            setattr(config, name, kwargs.pop(name))
        config.check()
        tensors = read_official(folder, config)
        if "generation_config" not in kwargs and (folder / "generation_config.json").exists():
            kwargs["generation_config"] = GenerationConfig.from_pretrained(folder)
        with torch.device("meta"):
            empty = cls(config)
        weights = fit_official(tensors, config, empty.state_dict())
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
    def _read_plain(cls, folder: Path, *model_args: Any, **kwargs: Any) -> Any:
        """Read a folder of our own as transformers does, and account for every tensor.

        What is missing transformers would make up at random, with a line in the log.
        """
        with_info = kwargs.pop("output_loading_info", False)
        shapes = not kwargs.pop("ignore_mismatched_sizes", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        both: Any = super().from_pretrained(folder, *model_args, **kwargs)
        model, found = both
        refuse_loaded_misfits(found, shapes=shapes)
        return (model, found) if with_info else model


def _refuse_adapter(folder: Path, named: Any) -> None:
    """Refuse what transformers would load without its base's weights, or leave out."""
    place = (named or {}).get("_adapter_model_path")
    if place is None and (folder / "adapter_config.json").exists():
        place = folder
    if place is not None:
        raise ConfigError(
            f"'{place}' holds an adapter, and none are read for VideoLLaMA2. Merge it into its "
            "base with the authors' code, or load the base here and the adapter with peft."
        )
