"""An arena without pretrained weights: a tiny random model, right by definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from fastav_plugin.lab.arenas.arena import FollowUp, Question
from fastav_plugin.tokens import TokenMap
from tests.support import small_models

LENGTH, MEDIA = 110, (5, 101)


class Words:
    """Decodes ids to words such as w12."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        del skip_special_tokens
        return " ".join(f"w{int(token)}" for token in ids)


@dataclass
class TinyArena:
    """Two questions per passage; dense is right in all but each third one."""

    model: Any
    name: str = "tiny"
    tokenizer: Any = field(default_factory=Words)
    facts: Any = field(default_factory=lambda: {"weights": "random"})
    about: str = "A random model"

    @classmethod
    def make(cls) -> TinyArena:
        model = small_models.qwen2().eval()
        model.generation_config.eos_token_id = None
        return cls(model)

    def questions(self, count: int, seed: int) -> list[Question]:
        return [self._question(number, seed) for number in range(count)]

    def _question(self, number: int, seed: int) -> Question:
        ids = small_models.prompt(seed=1000 * seed + number, length=LENGTH)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            first = int(self.model(ids).logits[0, -1].argmax())
        right = (f"w{first}",) if number % 3 != 2 else ("none",)
        return Question(
            name=f"{seed}-{number}",
            passage=f"{seed}-{number // 2}",
            kind="first" if number % 2 else "other",
            place="early",
            inputs=given,
            tokens=TokenMap.from_spans(LENGTH, video=[MEDIA], tokens_per_frame=8),
            answers=right,
            max_new_tokens=10,
            evidence=list(range(20, 30)),
            follow_up=FollowUp(small_models.prompt(seed=7, length=6), ("w1",)),
        )
