"""Checkpoint folders of small random models with their processors, and tokenizers for tiny ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer, vocabulary
from tests.support.prompts import PAD, VOCABULARY


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


def word(token: int) -> str:
    """How a token is spelled."""
    return f"word{token:02}"


def word_tokenizer(extra: int = 0, spelled: Mapping[int, str] | None = None) -> Any:
    """A fast tokenizer of which every token is one word.

    Args:
        extra: words that are not used, before the first, for another vocabulary.
        spelled: tokens of other names.
    """
    words = [f"unused{number}" for number in range(extra)]
    words = ["<pad>", *words, *(word(token) for token in range(1, VOCABULARY))]
    for token, text in (spelled or {}).items():
        words[token + extra] = text
    words[-1] = "abcdef"  # what transformers reads other tokens after, to match stop strings
    inner = Tokenizer(models.WordLevel({text: n for n, text in enumerate(words)}, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert words[PAD] == "<pad>"
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=inner, pad_token="<pad>", unk_token="<pad>")
