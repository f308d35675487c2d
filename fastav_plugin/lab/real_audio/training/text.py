"""First stage: the language model learns the questions on the true words, without any sound."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.training.batches import Record, branch_of, draw_branches
from fastav_plugin.lab.real_audio.training.loop import Stage
from fastav_plugin.lab.real_audio.training.packing import Prefix, predict

_BATCH = 6
_TEST_CLIPS, _TEST_QUESTIONS = 24, 4
_RATE = 1.5e-3
#: Share of steps whose words are laid out as a connector does.
_SPREAD = 0.4
#: How much longer audio tokens are than embeddings of words.
_LOUDEST = 2.5


class TextStage(Stage):
    """A low-rank update learned from sentences, some of them laid out as a connector's output.

    Args:
        name: of the stage; there may be several.
        minutes: of computing.
        model: the language model with its update.
        factors: of the update.
        blank: embedding between words, float [C].
        prompts: that tokenise.
        records: of training and test clips.
    """

    def __init__(
        self,
        name: str,
        *,
        minutes: float,
        model: Any,
        factors: list[nn.Parameter],
        blank: Tensor,
        prompts: Prompts,
        records: tuple[list[Record], list[Record]],
    ) -> None:
        self.name, self.minutes = name, minutes
        self._model, self._factors, self._blank = model, factors, blank
        self._prompts = prompts
        self._train, self._test = records

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The update alone."""
        return [(self._factors, _RATE)]

    def step(self, source: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Questions about the words of random clips."""
        batch = source.sample(self._train, _BATCH)
        spread = source.random() < _SPREAD
        prefixes = [self._prefix(record, source if spread else None) for record in batch]
        branches = [
            draw_branches(source, record, self._prompts, lookups=4, transcript=0.0)
            for record in batch
        ]
        found = predict(self._model, prefixes, branches)
        losses = found.by_kind()
        return found.loss(), {kind: sum(each) / len(each) for kind, each in losses.items()}

    def test(self) -> dict[str, Any]:
        """Shares of right answers about words of test clips in both layouts."""
        plain = count_right(self._model, self._prompts, self._test, lambda each: self._prefix(each))
        source = random.Random(0)
        spread = count_right(
            self._model, self._prompts, self._test, lambda each: self._prefix(each, source)
        )
        return {"plain": plain, "spread": spread}

    def _prefix(self, record: Record, source: random.Random | None = None) -> Prefix:
        """The words' embeddings; with a source, repeated, scaled and with blanks between."""
        ids = [i for text in record["sentences"] for i in self._prompts.words(text)]
        table: Tensor = self._model.get_input_embeddings().weight
        words = table[torch.tensor(ids)]
        if source is None:
            return Prefix.whole(words)
        rows = []
        scale = source.uniform(1.0, _LOUDEST)
        for word in words:
            rows += [word * scale] * source.choice((1, 1, 2))
            rows += [self._blank.detach() * scale] * source.randint(0, 4)
        return Prefix.whole(torch.stack(rows))


def few(records: list[Record]) -> Iterator[tuple[Record, list[Record]]]:
    """The first test clips with known names, and the questions about each that are asked."""
    source = random.Random(0)
    known = [record for record in records if not record["new_names"]]
    for record in known[:_TEST_CLIPS]:
        asked = record["questions"]
        yield record, source.sample(asked, min(_TEST_QUESTIONS, len(asked)))


@torch.no_grad()
def count_right(model: Any, prompts: Prompts, records: list[Record], prefix: Any) -> dict[str, Any]:
    """Shares of right answers over a few questions, all and by kind.

    Args:
        model: the language model.
        prompts: that tokenise.
        records: of test clips.
        prefix: makes the Prefix of a record.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    asked = list(few(records))
    for first in range(0, len(asked), 6):
        part = asked[first : first + 6]
        branches = [[branch_of(each, prompts) for each in questions] for _, questions in part]
        found = predict(model, [prefix(record) for record, _ in part], branches)
        for (row, index), hit in found.right().items():
            kind = branches[row][index].kind
            total[kind] += 1
            right[kind] += hit
    share = round(right.total() / total.total(), 3)
    return {"right": share} | {kind: f"{right[kind]}/{total[kind]}" for kind in sorted(total)}
