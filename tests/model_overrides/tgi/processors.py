"""Real processors for the tiny models, with the vocabulary of words that the tests have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import transformers

from tests.support.checkpoints import word, word_tokenizer
from tests.support.prompts import AUDIO, IMAGE, VIDEO, VISION_END, VISION_START

hub: Any = transformers


def tokenizer(spelled: Mapping[int, str] | None = None, /, **named: str) -> Any:
    """The words' tokenizer, whose placeholders need no spaces around them."""
    made = word_tokenizer(spelled=spelled)
    known = {token: word(token) for token in (IMAGE, VIDEO, AUDIO, VISION_START, VISION_END)}
    special = list((known | dict(spelled or {})).values())
    made.add_special_tokens({"additional_special_tokens": special})
    for name, value in named.items():
        setattr(made, name, value)
    return made


def _clip(side: int = 16) -> Any:
    size = {"height": side, "width": side}
    return hub.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size)


def _siglip(side: int = 16) -> Any:
    return hub.SiglipImageProcessor(size={"height": side, "width": side})


_PINPOINTS = {"image_grid_pinpoints": [[16, 32], [32, 16]]}
_EYES = {"patch_size": 4, "image_token": word(IMAGE)}


def llava() -> Any:
    return hub.LlavaProcessor(
        _clip(),
        tokenizer(),
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        **_EYES,
    )


def llava_next() -> Any:
    size = {"height": 16, "width": 16}
    eyes = hub.LlavaNextImageProcessor(size={"shortest_edge": 16}, crop_size=size, **_PINPOINTS)
    return hub.LlavaNextProcessor(
        eyes,
        tokenizer(),
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        **_EYES,
    )


def llava_onevision() -> Any:
    size = {"height": 16, "width": 16}
    return hub.LlavaOnevisionProcessor(
        hub.LlavaOnevisionImageProcessor(size=size, **_PINPOINTS),
        tokenizer(),
        hub.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        image_token=word(IMAGE),
        video_token=word(VIDEO),
    )


def _qwen(kind: str) -> Any:
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    size = {"shortest_edge": 64, "longest_edge": 1024}
    return getattr(hub, f"{kind}Processor")(
        hub.Qwen2VLImageProcessor(size=size, **sizes),
        tokenizer(image_token=word(IMAGE), video_token=word(VIDEO)),
        hub.Qwen2VLVideoProcessor(size=size, **sizes),
    )


def gemma3() -> Any:
    named = {"boi_token": VISION_START, "eoi_token": VISION_END, "image_token": IMAGE}
    words = tokenizer(**{name: word(token) for name, token in named.items()})
    words.image_token_id, words.boi_token_id = IMAGE, VISION_START
    size = {"height": 32, "width": 32}
    return hub.Gemma3Processor(hub.Gemma3ImageProcessor(size=size), words, image_seq_length=16)


def paligemma() -> Any:
    """Its own names of tokens are written in its processor."""
    eyes = _siglip(32)
    eyes.image_seq_length = 64
    named = {IMAGE: "<image>", VISION_START: "<bos>", VISION_END: "\n"}
    return hub.PaliGemmaProcessor(eyes, tokenizer(named, bos_token="<bos>"))


def _idefics(version: int) -> Any:
    """As paligemma."""
    side = {"longest_edge": 32}
    sizes = {"size": {"shortest_edge": 16, **side}} if version == 2 else {"max_image_size": side}
    kind = getattr(hub, f"Idefics{version}ImageProcessor")
    eyes = kind(**{"size": side, **sizes}, do_image_splitting=False)
    named = {IMAGE: "<image>", VISION_START: "<fake_token_around_image>"}
    named |= {VISION_END: "<end_of_utterance>", AUDIO: "<global-img>"}
    return getattr(hub, f"Idefics{version}Processor")(eyes, tokenizer(named), image_seq_len=16)


PROCESSORS: dict[str, Callable[[], Any]] = {
    "llava": llava,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "qwen2_vl": lambda: _qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: _qwen("Qwen2_5_VL"),
    "gemma3": gemma3,
    "matrix_paligemma": paligemma,
    "matrix_paligemma_2": paligemma,
    "matrix_idefics2": lambda: _idefics(2),
    "matrix_idefics3": lambda: _idefics(3),
}
