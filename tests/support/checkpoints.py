"""Checkpoint folders of small random models with their real processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    T5Config,
    T5ForConditionalGeneration,
)

from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer, vocabulary


def save_llava(folder: Path, **text: Any) -> None:
    """A LLaVA of four layers that gives a picture 144 tokens.

    Args:
        folder: where it is saved.
        text: other settings of its text model.
    """
    ids = vocabulary()
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    vision = {"model_type": "clip_vision_model", "image_size": 96, "patch_size": 8}
    words = {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(ids)}
    config = LlavaConfig(
        vision_config={**vision, **small},
        text_config={**words, **small, **text},
        image_token_index=ids["<|IMAGE|>"],
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    side = {"height": 96, "width": 96}
    LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=CLIPImageProcessor(size=side, crop_size=side),
        tokenizer=build_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<|IMAGE|>",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)


def save_t5(folder: Path) -> None:
    """An encoder-decoder, which cannot be pruned."""
    sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(vocab_size=60, **sizes)).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
