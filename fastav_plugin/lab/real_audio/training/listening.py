"""Third stage: questions about sounds, with the language model."""

import random
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fastav_plugin.lab.real_audio.connector import Connector
from fastav_plugin.lab.real_audio.frames import POOL
from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.training.batches import (
    Record,
    draw_batches,
    draw_branches,
    frames_of,
)
from fastav_plugin.lab.real_audio.training.loop import Stage
from fastav_plugin.lab.real_audio.training.packing import Prefix, predict
from fastav_plugin.lab.real_audio.training.text import TextStage, count_right

_RATE = 3e-4
#: The update of the language model learns slower than the connector.
_UPDATE_RATE = 2.5e-4
#: Share of steps that go on with the text stage: they are a third as long.
_TEXT = 0.25
#: Tokens of a batch, and those that the questions of a clip take about.
_TOKENS, _QUESTIONS = 1_400, 75
_LOOKUPS, _TRANSCRIPT = 3, 0.2
#: Half of the steps drop up to this share of the audio tokens.
_DROP = 0.3
#: Clips are at most so many frames long at first; by this share of the time, any length.
_SHORT, _LONG, _ALL_BY = 280, 1_500, 0.7


class ListeningStage(Stage):
    """Connector and update together, short clips first.

    Args:
        minutes: of computing.
        model: the language model with its update.
        factors: of the update.
        connector: between encoder and language model.
        text: a stage on text, some of whose steps are mixed in.
        prompts: that tokenise.
        records: of training and test clips.
    """

    name = "listening"
    test_every = 50

    def __init__(
        self,
        *,
        minutes: float,
        model: Any,
        factors: list[nn.Parameter],
        connector: Connector,
        text: TextStage,
        prompts: Prompts,
        records: tuple[list[Record], list[Record]],
    ) -> None:
        self.minutes = minutes
        self._model, self._factors, self._connector = model, factors, connector
        self._prompts, self._text = prompts, text
        self._train, self._test = records
        self._batches: Iterator[list[Record]] = iter(())
        self._left = self._steps = 0

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The connector, and the update at a lower rate."""
        return [([*self._connector.parameters()], _RATE), (self._factors, _UPDATE_RATE)]

    def step(self, source: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Several questions about each clip of a batch, half of the time on fewer tokens."""
        # All processes take such a step together: one that is done early would wait.
        self._steps += 1
        if random.Random(self._steps).random() < _TEXT:
            loss, _ = self._text.step(source, progress)
            return loss, {"text": float(loss.detach())}
        batch = self._next(source, progress)
        tokens = self._connector([frames_of(record) for record in batch])
        prefixes = [Prefix.whole(each) for each in tokens]
        if source.random() < 0.5:
            prefixes = [each.drop(source.uniform(0, _DROP)) for each in prefixes]
        branches = [
            draw_branches(source, record, self._prompts, lookups=_LOOKUPS, transcript=_TRANSCRIPT)
            for record in batch
        ]
        found = predict(self._model, prefixes, branches)
        figures = {kind: sum(each) / len(each) for kind, each in found.by_kind().items()}
        seconds = sum(record["seconds"] for record in batch)
        return found.loss(), figures | {"clips": len(batch), "seconds": seconds}

    def test(self) -> dict[str, Any]:
        """Shares of right answers about a few test clips, from their sound."""

        def prefix(record: Record) -> Prefix:
            return Prefix.whole(self._connector([frames_of(record)])[0])

        return count_right(self._model, self._prompts, self._test, prefix)

    def _next(self, source: random.Random, progress: float) -> list[Record]:
        """The next batch; what is long enough is chosen anew every 20 batches."""
        batch = next(self._batches, None) if self._left else None
        if batch is None:
            longest = _SHORT + (_LONG - _SHORT) * min(1.0, progress / _ALL_BY)
            usable = [record for record in self._train if record["frames"] <= longest]
            self._batches = draw_batches(source, usable, _TOKENS * POOL, extra=_QUESTIONS * POOL)
            self._left = 20
            batch = next(self._batches)
        self._left -= 1
        return batch
