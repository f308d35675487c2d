"""A tokenizer for the tiny models: every token is one word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support.prompts import PAD, VOCABULARY


def word(token: int) -> str:
    """How a token is spelled."""
    return f"word{token:02}"


def word_tokenizer(extra: int = 0, spelled: Mapping[int, str] | None = None) -> Any:
    """A fast tokenizer; `extra` unused words stand before the first, for another vocabulary.

    `spelled` are tokens of other names.
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
