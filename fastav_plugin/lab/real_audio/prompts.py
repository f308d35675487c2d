"""What the language model reads: the sound's tokens, then a question, then the answer."""

from functools import lru_cache
from typing import Any

#: <|im_start|> before everything, a token that SmolLM2 does not use as placeholder of the sound,
#: <|im_end|> after the answer.
START, AUDIO, END = 1, 4, 2


class Prompts:
    """Token ids of the parts of a prompt.

    Args:
        tokenizer: of SmolLM2.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._ids = lru_cache(maxsize=None)(lambda text: tuple(tokenizer(text).input_ids))

    def question(self, text: str) -> list[int]:
        """What follows the sound when a question is asked."""
        return list(self._ids(f"\nQuestion: {text}\nAnswer:"))

    def transcript(self) -> list[int]:
        """What follows the sound when its words are asked for."""
        return list(self._ids("\nTranscript:"))

    def answer(self, text: str) -> list[int]:
        """An answer and its end."""
        return [*self.words(text), END]

    def words(self, text: str) -> list[int]:
        """Words that follow others."""
        return list(self._ids(f" {text}"))

    def whole(self, audio_tokens: int, question: str) -> list[int]:
        """The prompt with a placeholder for each token of the sound."""
        return [START, *[AUDIO] * audio_tokens, *self.question(question)]
