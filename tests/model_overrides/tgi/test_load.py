"""Many requests in TGI's loop: some leave, some are damaged, and nothing of any of them stays."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastav_plugin.serving.media.policy import MediaError
from tests.model_overrides.tgi.served import Served, Shard, ask, inline, picture

pytestmark = [pytest.mark.double, pytest.mark.usefixtures("tgi_double")]

REQUESTS = 64
#: No request runs longer; a shorter answer is the beginning of a longer one.
LONGEST = 9
#: Prompts that requests are drawn from: each is asked alone once.
ASKED: tuple[tuple[str | bytes, ...], ...] = (
    ("which colour is the circle",),
    ("<video>matching.mp4</video>", "is the circle visible"),
    (inline(1), "which colour is the square"),
    ("is the square visible", picture(2, 84, 56), "is the circle visible"),
    ("<audio>crowded.mp4</audio>", inline(3, 56, 112), "which sound is heard"),
    ("is the triangle visible " * 9, picture(4)),
)
DAMAGED = picture(5)[:200]


@dataclass
class Scene:
    """What the router would know, and what is looked at afterwards.

    Attributes:
        wanted: the prompt of each request, and the tokens it stays for.
        refused: damaged requests.
        left: requests whose client went away.
        caches: of every batch there was.
        most: bytes of keys and values that were held at once.
    """

    wanted: dict[int, tuple[int, int]] = field(default_factory=dict)
    refused: int = 0
    left: int = 0
    caches: list[weakref.ref[Any]] = field(default_factory=list)
    most: int = 0


def run(shard: Shard, drawn: random.Random) -> Scene:
    """Serve all requests, up to three new ones at a time."""
    scene, first = Scene(), 0
    current: int | None = None
    while first < REQUESTS or current is not None:
        new = range(first, min(REQUESTS, first + drawn.randint(0, 3)))
        first += len(new)
        batches = [] if current is None else [current]
        batches += [number for number in new if arrive(shard, scene, number, drawn)]
        current = None
        if batches:
            shard.decode(*batches)
            scene.most = max(scene.most, shard.kv_bytes())
            if batches[0] in shard.batches and stays(shard, scene, batches[0]):
                current = batches[0]
    return scene


def arrive(shard: Shard, scene: Scene, number: int, drawn: random.Random) -> bool:
    """Prefill a request; whether it goes on. Every tenth names a damaged picture."""
    if number % 10 == 5:
        with pytest.raises(MediaError):
            shard.prefill(number, ask(number, "is it visible", DAMAGED))
        scene.refused += 1
        return False
    prompt, new = drawn.randrange(len(ASKED)), drawn.randint(2, LONGEST)
    shard.prefill(number, ask(number, *ASKED[prompt], new=new))
    leaves = drawn.random() < 0.2
    scene.left += leaves
    scene.wanted[number] = prompt, drawn.randint(1, new - 1) if leaves else new
    return stays(shard, scene, number)


def stays(shard: Shard, scene: Scene, number: int) -> bool:
    """Drop the requests of a batch that have ended or left; whether there are others."""
    scene.caches.append(weakref.ref(shard.batches[number].past_key_values.cache))
    ids = [request.id for request in shard.batches[number].requests]
    left = [n for n in ids if len(shard.said[n].tokens) < scene.wanted[n][1]]
    if not left:
        del shard.batches[number]
    elif len(left) < len(ids):
        shard.filter(number, *left)
    return bool(left)


def test_every_request_is_answered_as_if_alone_and_nothing_stays(served: Served) -> None:
    shard = Shard(served)
    scene = run(shard, random.Random(0))
    expected = [served.alone(ask(0, *asked, new=LONGEST)) for asked in ASKED]
    for number, (prompt, tokens) in scene.wanted.items():
        shard.said[number].check(expected[prompt], whole=tokens == LONGEST)
        assert len(shard.said[number].tokens) == tokens
    assert (len(scene.wanted), scene.refused) == (58, 6)
    assert scene.left > 5
    assert scene.most > 0
    gc.collect()
    assert not shard.batches
    assert not [cache for cache in scene.caches if cache() is not None]
