"""Second stage: the connector learns to spell words in embeddings, without the language model.

Connectionist temporal classification whose output layer is the language model's own table of
embeddings, of the tokens that occur, and a learned blank.
"""

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.lab.real_audio.connector import Connector
from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.training.batches import Record, draw_batches, frames_of
from fastav_plugin.lab.real_audio.training.loop import Stage

_RATE = 5e-4
#: Frames of a batch.
_FRAMES = 12_000
_TEST_CLIPS = 100
#: Logits per unit of inner product with an embedding, times the embeddings' mean norm.
_SHARPNESS = 8.0
#: Audio tokens of more than so many times the embeddings' norm are held back a little.
_LONG, _HOLD = 1.5, 0.05


class AlignmentStage(Stage):
    """The connector by itself.

    Args:
        minutes: of computing.
        table: the language model's embeddings, float [vocabulary, C].
        connector: that is trained.
        blank: embedding of no word, float [C], trained as well.
        prompts: that tokenise.
        records: of training and test clips.
    """

    name = "alignment"
    warm_up = 30
    weight_decay = 0.01

    def __init__(
        self,
        *,
        minutes: float,
        table: Tensor,
        connector: Connector,
        blank: nn.Parameter,
        prompts: Prompts,
        records: tuple[list[Record], list[Record]],
    ) -> None:
        self.minutes = minutes
        self._connector, self._blank = connector, blank
        self._train, self._test = records
        self._targets = {
            record["name"]: [i for text in record["sentences"] for i in prompts.words(text)]
            for part in records
            for record in part
        }
        used = sorted({i for ids in self._targets.values() for i in ids})
        self._index = {token: index for index, token in enumerate(used, start=1)}
        self._words = table[torch.tensor(used)].detach().clone()
        self._norm = float(self._words.norm(dim=1).mean())
        self._batches: Iterator[list[Record]] = iter(())

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Connector and blank."""
        return [([*self._connector.parameters(), self._blank], _RATE)]

    def step(self, source: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The words of a batch of clips of similar length."""
        batch = next(self._batches, None)
        if batch is None:
            self._batches = draw_batches(source, self._train, _FRAMES)
            batch = next(self._batches)
        tokens = self._connector([frames_of(record) for record in batch])
        logits = nn.utils.rnn.pad_sequence([self._logits(each) for each in tokens])
        targets = [self._spelled(record) for record in batch]
        loss = nn.functional.ctc_loss(
            logits.log_softmax(-1),
            torch.tensor([i for each in targets for i in each]),
            torch.tensor([len(each) for each in tokens]),
            torch.tensor([len(each) for each in targets]),
            zero_infinity=True,
        )
        norms = torch.cat(tokens).norm(dim=1) / self._norm
        held = _HOLD * nn.functional.relu(norms - _LONG).mean()
        return loss + held, {"ctc": float(loss.detach()), "size": float(norms.detach().mean())}

    @torch.no_grad()
    def test(self) -> dict[str, Any]:
        """Share of tokens that are wrong in test clips, of known names and of new ones."""
        found: dict[str, Any] = {}
        for name, new in (("known", False), ("new", True)):
            clips = [each for each in self._test if each["new_names"] is new][:_TEST_CLIPS]
            wrong = [self._wrong(record) for record in clips]
            total = sum(len(self._targets[record["name"]]) for record in clips)
            found[f"{name} wrong"] = round(sum(wrong) / max(1, total), 4)
            found[f"{name} exact"] = f"{wrong.count(0)}/{len(wrong)}"
        return found

    def _logits(self, tokens: Tensor) -> Tensor:
        return tokens @ torch.cat([self._blank[None], self._words]).T * (_SHARPNESS / self._norm)

    def _spelled(self, record: Record) -> list[int]:
        return [self._index[token] for token in self._targets[record["name"]]]

    def _wrong(self, record: Record) -> int:
        best = self._logits(self._connector([frames_of(record)])[0]).argmax(-1).tolist()
        heard = [i for i, before in zip(best, [0, *best], strict=False) if i and i != before]
        return distance(heard, self._spelled(record))


def distance(first: list[int], second: list[int]) -> int:
    """Fewest insertions, deletions and replacements that make one sequence of the other."""
    row = list(range(len(second) + 1))
    for count, one in enumerate(first, start=1):
        above, row = row, [count]
        for index, other in enumerate(second):
            row.append(min(above[index] + (one != other), above[index + 1] + 1, row[index] + 1))
    return row[-1]
