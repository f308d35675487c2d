"""Sizes of BEATs and of VideoLLaMA2, read from our own config.json or the authors'."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig, Qwen2Config, SiglipVisionConfig
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.own_models.checked_config import CheckedConfig
from fastav_plugin.model_overrides.videollama2.connector import connector_tokens
from fastav_plugin.model_overrides.videollama2.official import TOWERS, is_official, translate_config
from fastav_plugin.upstream.models import ConfigOfParts

#: What a picture or clip must have at least: two frames make one step of time.
FEWEST_FRAMES = 2
#: The authors' code takes no more of a clip.
MOST_FRAMES = 32


#: Sizes of the published decoder, Qwen2-7B.
DECODER: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}


class BeatsConfig(PreTrainedConfig):
    """Sizes of a BEATs encoder; the defaults are those of BEATs_iter3+.

    Attributes:
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: of its layers.
        patch_size: edge of a patch of the spectrogram.
        patch_embed_size: width of an embedded patch.
        num_mel_bins: mel bins of the spectrogram.
        conv_pos, conv_pos_groups: kernel and groups of the positional convolution.
        num_buckets, max_distance: of the table of relative positions.
        gru_rel_pos: whether that table is gated by the query.
        deep_norm: whether residuals are scaled by (2 L) ** 0.25.
        fbank_mean, fbank_std: what filter banks are normalised by.
    """

    model_type = "beats"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    patch_size: int = 16
    patch_embed_size: int = 512
    num_mel_bins: int = 128
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    deep_norm: bool = True
    layer_norm_first: bool = False
    layer_norm_eps: float = 1e-5
    fbank_mean: float = 15.41663
    fbank_std: float = 6.55582

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.layer_norm_first:
            raise ConfigError("`layer_norm_first` must be False: BEATs_iter3+ norms afterwards.")

    def tokens(self, frames: int) -> int:
        """Tokens made of a spectrogram of `frames` frames."""
        return (frames // self.patch_size) * (self.num_mel_bins // self.patch_size)


class VideoLlama2Config(CheckedConfig, ConfigOfParts, PreTrainedConfig):
    """Sizes of a VideoLLaMA2.1 model with sound; the defaults are those of the published 7B.

    Attributes:
        text_config: of the Qwen2 decoder.
        vision_config: of the SigLIP tower.
        audio_config: of the BEATs tower.
        vision_feature_layer: which of the tower's hidden states is used; later layers are not
            built.
        connector_depth: RegNet blocks in each stage of the connector.
        connector_mlp_depth: linear layers at the connector's end.
        audio_projector_depth: linear layers between BEATs and the decoder.
        num_frames: frames sampled from a clip; 8 reproduces the FastAV paper.
        image_token_id, video_token_id, audio_token_id: one stands in input_ids for each media
            token; by default the last three ids of the vocabulary, which no text uses.
    """

    model_type = "videollama2_qwen2"
    parts: ClassVar[Any] = {
        "text_config": (Qwen2Config, DECODER),
        "vision_config": (SiglipVisionConfig, TOWERS["siglip-so400m-patch14-384"]),
        "audio_config": (BeatsConfig, {}),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    audio_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_feature_layer: int = -2
    connector_depth: int = 4
    connector_mlp_depth: int = 2
    audio_projector_depth: int = 2
    num_frames: int = 8
    image_token_id: int | None = None
    video_token_id: int | None = None
    audio_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        text: Any = self.text_config
        if text.tie_word_embeddings:
            self.tie_word_embeddings = True
        for place, kind in enumerate(("audio", "video", "image"), start=1):
            if getattr(self, f"{kind}_token_id") is None:
                setattr(self, f"{kind}_token_id", text.vocab_size - place)
        self.check()

    @override
    def check(self) -> None:
        if self.num_frames < FEWEST_FRAMES:
            raise ConfigError(f"`num_frames` must be at least 2, got {self.num_frames}.")
        text: Any = self.text_config
        ids = [self.image_token_id, self.video_token_id, self.audio_token_id]
        if any(number is None or not 0 <= number < text.vocab_size for number in ids):
            raise ConfigError(
                f"Placeholder ids {ids} must lie from 0 to below `vocab_size`, {text.vocab_size}."
            )

    @classmethod
    @override
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read our own config.json, or the flat one of the published checkpoint."""
        if is_official(config_dict):
            config_dict = translate_config(config_dict)
        return super().from_dict(config_dict, **kwargs)

    @property
    def patches_per_side(self) -> int:
        """Patches along an edge of a picture."""
        vision: Any = self.vision_config
        return int(vision.image_size // vision.patch_size)

    def video_tokens(self, frames: int) -> int:
        """Tokens of a clip of `frames` frames."""
        return connector_tokens(frames, self.patches_per_side)
