"""Configurations of video-SALMONN 2 and 2+, which read the authors' config.json as it is."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from transformers import PreTrainedConfig, Qwen2Config, SiglipVisionConfig, WhisperConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.own_models.checked_config import CheckedConfig
from fastav_plugin.upstream.models import ConfigOfParts

#: The one vision tower that the 7B model was trained with; checkpoints only name it.
VISION_TOWER = "siglip-so400m-patch14-384"

#: What config.json must say of the visual tokens, where it does: nothing else is built here.
_ASSUMED = {"mm_projector_type": "mlp2x_gelu", "mm_newline_position": "grid"}

#: Whisper large-v3's encoder.
_WHISPER = {
    "num_mel_bins": 128,
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "max_source_positions": 1500,
}
_SIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
_QWEN_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
}


_QWEN_ROPE = {"rope_type": "default", "mrope_section": [16, 24, 24]}


class WindowQFormerConfig(PreTrainedConfig):
    """Sizes of a window-level Q-Former.

    Args:
        hidden_size: width C of the queries.
        num_hidden_layers: layers; each has self-attention, cross-attention and an MLP.
        num_attention_heads: heads of both attentions.
        intermediate_size: width of the MLP.
        encoder_width: width of the frames that it reads.
        query_length: queries per window.
        layer_norm_eps: of all its norms.
    """

    model_type = "window_qformer"

    hidden_size: int = 768
    num_hidden_layers: int = 2
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    encoder_width: int = 1280
    query_length: int = 1
    layer_norm_eps: float = 1e-12


class VideoSalmonn2Config(CheckedConfig, ConfigOfParts, Qwen2Config):
    """video-SALMONN 2: Qwen2 with SigLIP frames and Whisper sound, interleaved frame by frame.

    The decoder's fields are those of Qwen2Config. What the authors pass on the command line
    instead of config.json (pooling, newlines, windows, sampling) is a default here.

    Args:
        vision_config: SigLIP, without the last layer, which the features do not pass.
        speech_config: Whisper's encoder.
        qformer_config: the window-level Q-Former.
        pool_stride: side of the squares of patches of which the maximum is kept.
        second_per_window: seconds of sound in one window of the Q-Former.
        second_stride: seconds from one window to the next.
        max_speech_segments: segments of 30 seconds that a sound may have.
        video_fps: frames taken of each second.
        max_frames: most frames of a clip; a longer one is sampled evenly.
        video_token_id: placeholder of one visual token, an id that the tokenizer never makes.
        audio_token_id: placeholder of one audio token, alike.
    """

    model_type = "video_salmonn_2"
    default_theta = 1_000_000.0
    parts: ClassVar[Any] = {
        "vision_config": (SiglipVisionConfig, {}),
        "speech_config": (WhisperConfig, {}),
        "qformer_config": (WindowQFormerConfig, {}),
    }

    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_hidden_layers: int = 28
    num_attention_heads: int = 28
    num_key_value_heads: int | None = 4
    vocab_size: int = 152064
    vision_config: Any = None
    speech_config: Any = None
    qformer_config: Any = None
    mm_vision_tower: str | None = None
    mm_projector_type: str | None = None
    mm_newline_position: str | None = None
    pool_stride: int = 2
    second_per_window: float = 0.5
    second_stride: float = 0.5
    max_speech_segments: int = 201
    video_fps: float = 1.0
    max_frames: int = 110
    video_token_id: int = 152062
    audio_token_id: int = 152063

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vision_config is None:
            self._check_tower()
            self.vision_config = _SIGLIP | {"num_hidden_layers": 26, "vision_use_head": False}
        if self.speech_config is None:
            self.speech_config = dict(_WHISPER)
        super().__post_init__(**kwargs)
        self.check()

    @override
    def check(self) -> None:
        self._check_assumed()
        if max(self.video_token_id, self.audio_token_id) >= self.vocab_size:
            raise ConfigError(
                f"Placeholder ids {self.video_token_id} and {self.audio_token_id} must lie below "
                f"`vocab_size`, {self.vocab_size}."
            )

    def _check_assumed(self) -> None:
        """Refuse settings of LLaVA under which the modules here would be other ones."""
        for name, value in _ASSUMED.items():
            stated = getattr(self, name)
            if stated not in (None, value):
                raise ConfigError(f"`{name}` must be {value!r} in config.json, got {stated!r}.")

    def _check_tower(self) -> None:
        named = self.mm_vision_tower
        if named is not None and not str(named).rstrip("/").endswith(VISION_TOWER):
            raise ConfigError(
                f"config.json names the vision tower {named!r}; known is 'google/{VISION_TOWER}'. "
                "Give the sizes of another one as `vision_config`."
            )

    @property
    def tokens_per_frame(self) -> int:
        """Visual tokens of one frame: pooled rows of patches, each with its newline."""
        vision: Any = self.vision_config
        side = int(vision.image_size) // int(vision.patch_size) // self.pool_stride
        return side * (side + 1)


class VideoSalmonn2PlusAudioConfig(ConfigOfParts, WhisperConfig):
    """Whisper's encoder with a window-level Q-Former of its own.

    Args:
        qformer_config: the Q-Former.
        second_per_window: seconds of sound in one window.
        second_stride: seconds from one window to the next.
    """

    model_type = "video_salmonn2_plus_audio"
    base_config_key = "audio_config"
    parts: ClassVar[Any] = {"qformer_config": (WindowQFormerConfig, {})}

    num_mel_bins: int = 128
    d_model: int = 1280
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    max_source_positions: int = 1500
    qformer_config: Any = None
    second_per_window: float = 0.5
    second_stride: float = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        if self.qformer_config is None or isinstance(self.qformer_config, dict):
            given = _unnamed(self.qformer_config or {})
            self.qformer_config = {"hidden_size": 3072, "intermediate_size": 12288} | given
        super().__post_init__(**_unnamed(kwargs))


class VideoSalmonn2PlusConfig(CheckedConfig, ConfigOfParts, Qwen2_5_VLConfig):
    """video-SALMONN 2+: Qwen2.5-VL with Whisper sound between the time grids of a clip.

    The authors' config.json calls itself "qwen2_5_vl" and is flat; it is read as it is.

    Args:
        audio_config: Whisper's encoder and the Q-Former.
        audio_token_id: placeholder of one audio token.
        positions: "trained" gives sound its own multi-dimensional rotary positions, as in
            training; "reference" gives the ones that the authors' inference code arrives at: the
            clip's grid is laid over the first tokens of the interleaved block, the rest is text.
        video_fps: frames taken of each second.
        min_frames, max_frames: of a clip.
        max_pixels: most pixels of a frame.
    """

    model_type = "video_salmonn2_plus"
    parts: ClassVar[Any] = {
        "vision_config": (Qwen2_5_VLVisionConfig, {}),
        "text_config": (Qwen2_5_VLTextConfig, {}),
        "audio_config": (VideoSalmonn2PlusAudioConfig, {}),
    }

    audio_config: Any = None
    audio_token_id: int = 151665
    positions: str = "trained"
    video_fps: float = 10.0
    min_frames: int = 16
    max_frames: int = 768
    max_pixels: int = 61_250

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            known = {*inspect.signature(Qwen2_5_VLTextConfig.__init__).parameters}
            known |= {"rope_parameters", "rope_scaling", "rope_theta"}
            found: dict[str, Any] = {name: kwargs.pop(name) for name in sorted(known & set(kwargs))}
            if not found.get("rope_scaling"):
                found.setdefault("rope_parameters", dict(_QWEN_ROPE))
            self.text_config = _QWEN_7B | {"max_position_embeddings": 128000} | found
        if self.vision_config is None:
            self.vision_config = {"tokens_per_second": 2}
        if isinstance(self.vision_config, dict):
            self.vision_config = {"hidden_size": 1280} | _unnamed(self.vision_config)
        if isinstance(self.audio_config, dict):
            self.audio_config = _unnamed(self.audio_config)
        super().__post_init__(**_unnamed(kwargs))
        self.check()

    @override
    def check(self) -> None:
        if self.positions not in ("trained", "reference"):
            raise ConfigError(
                f"`positions` must be 'trained' or 'reference', got {self.positions!r}."
            )

    @classmethod
    def claims(cls, values: dict[str, Any]) -> bool:
        """Whether a config.json is of this family, whatever it calls itself."""
        named = values.get("model_type")
        return named == cls.model_type or (named == "qwen2_5_vl" and "audio_config" in values)


def _unnamed(values: dict[str, Any]) -> dict[str, Any]:
    """Settings less what names their class, which is another one at the authors'."""
    return {name: value for name, value in values.items() if name not in ("model_type", "auto_map")}
