"""Tiny seeded real models of every supported family, and multimodal prompts for them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fastav_plugin import Modality, TokenMap
from tests.support import family_prompts as prompts
from tests.support.family_configs import (
    HIDDEN,
    LAYERS,
    PATCHES,
    PINPOINTS,
    WINDOWED,
    gemma_config,
    hub,
    llava_config,
    omni_config,
    qwen_config,
    spread,
    text_config,
)
from tests.support.prompts import PAD, VIDEO, Extra, Row, collate, lengthen, type_ids


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
        """Different media lengths, and one prompt without media."""
        return list(self.rows())

    def level(self) -> list[Row]:
        """Prompts of one length, so without padding, that hold different media."""
        long, short, _ = self.rows()
        return [long, lengthen(short, len(long))]

    def lopsided(self) -> list[Row]:
        """A prompt with media and a longer one without: a cut leaves the batch width."""
        _, short, none = self.rows()
        return [short, lengthen(none, len(short) + 6)]

    def token_map(self, rows: list[Row]) -> TokenMap | None:
        """The map a caller would pass; None where the override finds the media."""
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
    return build(name, attention)


def build(name: str, attention: str = "sdpa", *, layers: int = LAYERS, seed: int = 7) -> Any:
    """A new model of a family; `layers` are its decoder layers."""
    family = KNOWN[name]
    config = family.config()
    text = config.get_text_config(decoder=True)
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    head = getattr(hub, family.model_class)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Left to itself, each part takes sdpa where it can; some towers cannot.
        named = None if attention == "sdpa" else attention
        model = head._from_config(config, attn_implementation=named)
        spread(model)
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    return model.eval()


_mm_types = type_ids("mm_token_type_ids")
_OMNI = ("Qwen2_5OmniThinkerForConditionalGeneration", omni_config)
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
        functools.partial(llava_config, "Llava", image_seq_length=16),
        prompts.llava,
        "below 24",
    ),
    Family(
        "llava_next",
        "LlavaNextForConditionalGeneration",
        functools.partial(llava_config, "LlavaNext", **PINPOINTS),
        prompts.llava_next,
        "below 40",
    ),
    Family(
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        functools.partial(llava_config, "LlavaOnevision", video_token_index=VIDEO, **PINPOINTS),
        prompts.llava_onevision,
        {"image": "first 20 tokens", "video": "first 4 frames"},
    ),
    Family(
        "llava_next_video",
        "LlavaNextVideoForConditionalGeneration",
        functools.partial(llava_config, "LlavaNextVideo", video_token_index=VIDEO, **PINPOINTS),
        prompts.llava_next_video,
        "first 5 frames",
        has_frames=True,
    ),
    Family(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        functools.partial(
            qwen_config,
            "Qwen2VL",
            PATCHES | {"depth": 1, "embed_dim": 32, "mlp_ratio": 2, "hidden_size": HIDDEN},
        ),
        prompts.qwen_vl,
        {"image": "all", "video": "first 2 frames"},
        extra=_mm_types,
    ),
    Family(
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        functools.partial(qwen_config, "Qwen2_5_VL", WINDOWED),
        prompts.qwen2_5_vl,
        "below 36",
        extra=_mm_types,
    ),
    Family(
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        functools.partial(
            qwen_config,
            "Qwen3VL",
            PATCHES
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
        gemma_config,
        prompts.gemma3,
        "first 40 tokens",
        extra=type_ids("token_type_ids"),
    ),
    Family(
        "qwen2_text",
        "Qwen2ForCausalLM",
        lambda: hub.Qwen2Config(**text_config()),
        prompts.plain_text,
        _SOUND,
        given_map=True,
    ),
    Family(
        "llama_text",
        "LlamaForCausalLM",
        lambda: hub.LlamaConfig(**text_config()),
        prompts.plain_text,
        {"video": "first 3 frames", "audio": "first 12 tokens"},
        given_map=True,
    ),
]

FAMILIES = {family.name: family for family in _LISTED}

#: Every family the tests know: the matrix's, and those that other modules add.
KNOWN: dict[str, Family] = dict(FAMILIES)
