"""Many requests at once, some of which go wrong, and what they leave behind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.tgi_real.cases import words
from tests.tgi_real.checkpoints import Files
from tests.tgi_real.requests import Ask, Medium
from tests.tgi_real.router import Answer, Arrival

REQUESTS = 64


@dataclass(frozen=True)
class Load:
    """Requests in the order they come in.

    Attributes:
        arrivals: all of them.
        corrupt: numbers of those that name a damaged picture.
    """

    arrivals: list[Arrival]
    corrupt: frozenset[int]

    def leaving(self) -> list[int]:
        """Numbers of those whose client goes away."""
        return [n for n, arrival in enumerate(self.arrivals) if arrival.leaves_after is not None]


def draw(files: Files, seed: int, *, count: int = REQUESTS, step: int = 0) -> Load:
    """Draw requests of mixed length and media, staggered over the router's steps.

    Every tenth names a damaged picture, about one in five is left by its client.

    Args:
        files: that they name.
        seed: of the draw.
        count: of requests.
        step: at which the first comes in.
    """
    drawn = random.Random(seed)
    arrivals, corrupt = [], set()
    for number in range(count):
        step += drawn.choice((0, 0, 1, 2))
        ask = _ask(drawn, files)
        leaves = drawn.randint(1, ask.new_tokens - 1) if drawn.random() < 0.2 else None
        if number % 10 == 5:
            corrupt.add(number)
            ask = replace(ask, pieces=(Medium("image", files.corrupt), *ask.pieces))
            leaves = None
        arrivals.append(Arrival(ask, step, leaves))
    return Load(arrivals, frozenset(corrupt))


def _ask(drawn: random.Random, files: Files) -> Ask:
    texts = [words(drawn.randint(2, 40), drawn.randrange(12)) for _ in range(2)]
    pictures = [Medium("image", p) for p in drawn.choices(files.pictures, k=drawn.randint(0, 2))]
    pieces: tuple[str | Medium, ...] = (texts[0], *pictures, texts[1])
    return Ask(pieces, drawn.randint(2, 24), chunks=drawn.random() < 0.5)


def wrong(load: Load, answers: Sequence[Answer], alone: Sequence[Sequence[int]]) -> list[str]:
    """What is not as it should be, one sentence for each request.

    Args:
        load: what was asked.
        answers: of the server.
        alone: tokens of each request alone; of the corrupt ones nothing is looked at.
    """
    found = []
    for number, (arrival, answer) in enumerate(zip(load.arrivals, answers, strict=True)):
        if number in load.corrupt:
            if answer.error is None or answer.tokens:
                found.append(f"{number}: a damaged picture was answered: {answer}")
            continue
        wanted = list(alone[number])[: arrival.leaves_after]
        if answer.error is not None:
            found.append(f"{number}: {answer.error}")
        elif answer.tokens != wanted:
            found.append(f"{number}: {answer.tokens} instead of {wanted}")
        elif not (answer.ended or answer.cancelled):
            found.append(f"{number}: neither ended nor left")
    return found
