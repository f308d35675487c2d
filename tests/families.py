"""Tiny seeded real models of every supported family, and multimodal prompts for them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from fastav_plugin import Modality, TokenMap
from tests import family_prompts as prompts
from tests.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    PAD,
    VIDEO,
    VISION_END,
    VISION_START,
    VOCABULARY,
    Extra,
    Row,
    collate,
    lengthen,
)

HIDDEN = 48
LAYERS = 6


@dataclass(frozen=True)
class Family:
    """One family with one kind of prompt.

    Attributes:
        name: of the test case.
        model_class: transformers class of the head.
        config: makes its configuration.
        rows: a long media prompt, one with less media, one without media.
        rule: a global rule that cuts something of the first prompt.
        extra: further inputs made from the padded ids.
        constant: further inputs.
        given_map: whether a TokenMap of the caller says where media are.
        has_frames: whether every media token of the first prompt has a frame.
    """

    name: str
    model_class: str
    config: Callable[[], Any]
    rows: Callable[[], tuple[Row, Row, Row]]
    rule: str | dict[str, str]
    extra: Extra | None = None
    constant: dict[str, Any] = field(default_factory=dict)
    given_map: bool = False
    has_frames: bool = False

    def model(self, attention: str = "sdpa") -> Any:
        """The family's model in float32, the same weights for every attention implementation."""
        return _model(self.name, attention)

    def batch(self, rows: list[Row]) -> dict[str, Any]:
        """Left-padded inputs of several prompts."""
        constant = self.constant if any(piece.media for r in rows for piece in r.pieces) else {}
        return collate(rows, self.extra, **constant)

    def single(self) -> list[Row]:
        """A batch of one."""
        return [self.rows()[0]]

    def ragged(self) -> list[Row]:
        """Different media lengths, and one row without media."""
        return list(self.rows())

    def level(self) -> list[Row]:
        """Rows of one length, so without padding, that hold different media."""
        long, short, _ = self.rows()
        return [long, lengthen(short, len(long))]

    def lopsided(self) -> list[Row]:
        """A row with media and a longer one without: a cut leaves the batch as wide as it was."""
        _, short, none = self.rows()
        return [short, lengthen(none, len(short) + 6)]

    def token_map(self, rows: list[Row]) -> TokenMap | None:
        """The map a caller would pass; None where the override finds media by itself."""
        return map_of(rows) if self.given_map else None


def map_of(rows: list[Row]) -> TokenMap:
    """TokenMap of a left-padded batch, by construction."""
    maps = []
    for item in rows:
        spans: dict[str, list[tuple[int, int]]] = {"image": [], "video": [], "audio": []}
        start = 0
        for piece in item.pieces:
            kind = item.kinds[start]
            if kind > Modality.TEXT:
                spans[kind.name.lower()].append((start, start + len(piece.ids)))
            start += len(piece.ids)
        one = TokenMap.from_spans(len(item), **spans)  # type: ignore[arg-type]
        maps.append(one.with_frames(torch.tensor([item.frames])))
    return TokenMap.batch(maps, padding_side="left")


@functools.cache
def _model(name: str, attention: str) -> Any:
    family = FAMILIES[name]
    config = family.config()
    head = getattr(transformers, family.model_class)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = head._from_config(config, attn_implementation=attention)
        _spread(model)
    model.generation_config = transformers.GenerationConfig(pad_token_id=PAD)  # type: ignore[no-untyped-call]
    return model.eval()


@torch.no_grad()
def _spread(model: nn.Module) -> None:
    """Weights large enough that attention is peaked and every dropped row is missed."""
    for name, weight in sorted(model.named_parameters()):
        if "norm" in name and weight.dim() == 1:
            continue
        if "embed_tokens" in name:
            nn.init.normal_(weight, std=0.3)
        elif weight.dim() >= 2:
            nn.init.normal_(weight, std=1.5 / math.sqrt(weight[0].numel()))
        else:
            nn.init.normal_(weight, std=0.1)


def _text(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    } | changes


_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
_SIGHT = {"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END}
_PATCHES = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_heads": 2}
_WINDOWED = _PATCHES | {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "window_size": 16,
    "out_hidden_size": HIDDEN,
    "fullatt_block_indexes": [0],
}
_PLACEHOLDERS = {"image_token_id": IMAGE, "video_token_id": VIDEO}
_INDEXES = {"image_token_index": IMAGE, "video_token_index": VIDEO}


def _omni() -> Any:
    return transformers.Qwen2_5OmniThinkerConfig(
        text_config=_text(rope_parameters=_MROPE),
        vision_config=_WINDOWED,
        audio_config={
            "num_mel_bins": 8,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "n_window": 8,
            "output_dim": HIDDEN,
        },
        audio_token_index=AUDIO,
        audio_start_token_id=AUDIO_START,
        audio_end_token_id=AUDIO_END,
        position_id_per_seconds=4,
        **_INDEXES,
        **_SIGHT,
    )


def _tower(kind: str, side: int = 16) -> dict[str, Any]:
    tower = {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 4,
    }
    return tower | ({"vision_use_head": False} if kind.startswith("siglip") else {})


def _llava(kind: str, **changes: Any) -> Any:
    text = _text(model_type="qwen2" if kind == "LlavaOnevision" else "llama")
    tower = "siglip_vision_model" if kind == "LlavaOnevision" else "clip_vision_model"
    config = getattr(transformers, f"{kind}Config")
    return config(
        text_config=text, vision_config=_tower(tower), image_token_index=IMAGE, **changes
    )


_PINPOINTS = {"image_grid_pinpoints": [[16, 32], [32, 16]]}


def _qwen(kind: str, vision: dict[str, Any], **text: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")
    return config(
        text_config=_text(rope_parameters=_MROPE, **text),
        vision_config=vision,
        **_PLACEHOLDERS,
        **_SIGHT,
    )


def _gemma() -> Any:
    return transformers.Gemma3Config(
        text_config=_text(
            head_dim=12,
            query_pre_attn_scalar=12,
            sliding_window=12,
            layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        ),
        vision_config=_tower("siglip_vision_model", side=32),
        mm_tokens_per_image=16,
        image_token_index=IMAGE,
        boi_token_index=VISION_START,
        eoi_token_index=VISION_END,
    )


def _type_ids(name: str) -> Extra:
    """Token types as the processors make them: 1 image, 2 video."""

    def extra(ids: Tensor) -> dict[str, Tensor]:
        return {name: (ids == IMAGE).long() + 2 * (ids == VIDEO).long()}

    return extra


_mm_types = _type_ids("mm_token_type_ids")
_OMNI = ("Qwen2_5OmniThinkerForConditionalGeneration", _omni)
_SOUND = {"video": "all", "audio": "first 10 tokens"}

_LISTED = [
    Family("omni_image", *_OMNI, prompts.omni_image, "below 20"),
    Family("omni_video", *_OMNI, prompts.omni_video, "first 2 frames", has_frames=True),
    Family("omni_audio", *_OMNI, prompts.omni_audio, "first 10 tokens"),
    Family(
        "omni_interleaved",
        *_OMNI,
        prompts.omni_interleaved,
        _SOUND,
        constant={"use_audio_in_video": True},
        has_frames=True,
    ),
    Family("omni_all", *_OMNI, prompts.omni_all, _SOUND | {"image": "first 4 tokens"}),
    Family(
        "llava",
        "LlavaForConditionalGeneration",
        functools.partial(_llava, "Llava", image_seq_length=16),
        prompts.llava,
        "below 24",
    ),
    Family(
        "llava_next",
        "LlavaNextForConditionalGeneration",
        functools.partial(_llava, "LlavaNext", **_PINPOINTS),
        prompts.llava_next,
        "below 40",
    ),
    Family(
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        functools.partial(
            _llava, "LlavaOnevision", video_token_index=VIDEO, **_PINPOINTS
        ),
        prompts.llava_onevision,
        {"image": "first 20 tokens", "video": "first 4 frames"},
    ),
    Family(
        "llava_next_video",
        "LlavaNextVideoForConditionalGeneration",
        functools.partial(_llava, "LlavaNextVideo", video_token_index=VIDEO, **_PINPOINTS),
        prompts.llava_next_video,
        "first 5 frames",
        has_frames=True,
    ),
    Family(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        functools.partial(
            _qwen,
            "Qwen2VL",
            _PATCHES | {"depth": 1, "embed_dim": 32, "mlp_ratio": 2, "hidden_size": HIDDEN},
        ),
        prompts.qwen_vl,
        {"image": "all", "video": "first 2 frames"},
        extra=_mm_types,
    ),
    Family(
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        functools.partial(_qwen, "Qwen2_5_VL", _WINDOWED),
        prompts.qwen2_5_vl,
        "below 36",
        extra=_mm_types,
    ),
    Family(
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        functools.partial(
            _qwen,
            "Qwen3VL",
            _PATCHES
            | {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 32,
                "out_hidden_size": HIDDEN,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0, 1],
            },
            head_dim=12,
        ),
        prompts.qwen3_vl,
        {"image": "first 8 tokens", "video": "first 2 frames"},
        extra=_mm_types,
    ),
    Family(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        _gemma,
        prompts.gemma3,
        "first 40 tokens",
        extra=_type_ids("token_type_ids"),
    ),
    Family(
        "qwen2_text",
        "Qwen2ForCausalLM",
        lambda: transformers.Qwen2Config(**_text()),
        prompts.plain_text,
        _SOUND,
        given_map=True,
    ),
    Family(
        "llama_text",
        "LlamaForCausalLM",
        lambda: transformers.LlamaConfig(**_text()),
        prompts.plain_text,
        {"video": "first 3 frames", "audio": "first 12 tokens"},
        given_map=True,
    ),
]

FAMILIES = {family.name: family for family in _LISTED}
