"""Batches of clips of similar length, and questions about them."""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.training.packing import Branch

Record = dict[str, Any]

#: Kinds of questions about more than one word of one fact.
OTHERS = ("first", "last", "count", "claim", "absent")
#: Batches that are cut from one stretch of clips sorted by length.
_TOGETHER = 12
_TRANSCRIPT_WEIGHT = 0.3
#: Share of clips that a second question is asked about.
_SECOND = 0.3


@cache
def _opened(file: str) -> np.ndarray:
    opened: np.ndarray = np.load(file, mmap_mode="r")
    return opened


def frames_of(record: Record) -> Tensor:
    """Encoder frames of a clip, float32 [frames, 512]."""
    stop = record["place"] + record["frames"]
    return torch.from_numpy(_opened(record["file"])[record["place"] : stop].astype(np.float32))


def draw_batches(
    source: random.Random, records: Sequence[Record], most: int, extra: int = 0
) -> Iterator[list[Record]]:
    """All clips once, in random order of batches.

    Args:
        source: of the order.
        records: of the clips.
        most: frames of a batch with its padding.
        extra: further frames that each clip is counted with.
    """
    order = list(records)
    source.shuffle(order)
    mean = sum(record["frames"] + extra for record in order) / len(order)
    stretch = max(1, int(most / mean)) * _TOGETHER
    batches: list[list[Record]] = []
    for first in range(0, len(order), stretch):
        batch: list[Record] = []
        for record in sorted(order[first : first + stretch], key=lambda each: each["frames"]):
            if batch and (len(batch) + 1) * (record["frames"] + extra) > most:
                batches.append(batch)
                batch = []
            batch.append(record)
        batches.append(batch)
    source.shuffle(batches)
    yield from batches


def draw_branches(
    source: random.Random, record: Record, prompts: Prompts, *, lookups: int, transcript: float
) -> list[Branch]:
    """Questions about a clip: some of single words, one of another kind, perhaps its words.

    Now and then the last one is asked as a second question, after the first and its answer.

    Args:
        source: of what is drawn.
        record: of the clip.
        prompts: that tokenise.
        lookups: questions about one word of one fact.
        transcript: how probable it is that the words are asked for.
    """
    asked = record["questions"]
    of_facts = [each for each in asked if each["kind"] not in OTHERS]
    others = [each for each in asked if each["kind"] in OTHERS]
    drawn = [source.choice(others), *source.sample(of_facts, min(lookups, len(of_facts)))]
    branches = [branch_of(each, prompts) for each in drawn]
    if source.random() < _SECOND:
        earlier = [*prompts.question(drawn[0]["text"]), *prompts.words(drawn[0]["answer"])]
        last = branches[-1]
        branches[-1] = Branch([*earlier, *last.prompt], last.answer, "second")
    if source.random() < transcript:
        words = prompts.answer(" ".join(record["sentences"]))
        branches.append(Branch(prompts.transcript(), words, "transcript", _TRANSCRIPT_WEIGHT))
    return branches


def branch_of(question: Record, prompts: Prompts) -> Branch:
    """A question with its answer, counted as a lookup or under its own kind."""
    kind = question["kind"] if question["kind"] in OTHERS else "lookup"
    return Branch(prompts.question(question["text"]), prompts.answer(question["answer"]), kind)
