"""Requests that come and go in TGI's loop: each gets what generate() says to it alone."""

from __future__ import annotations

import pytest

from fastav_plugin import StateError
from fastav_plugin.model_overrides.tgi.prompts import PromptError
from fastav_plugin.serving.media.policy import MediaError
from tests.model_overrides.tgi.double import generate_pb2 as pb
from tests.model_overrides.tgi.served import Said, Served, Shard, ask, inline, picture

pytestmark = [pytest.mark.double, pytest.mark.usefixtures("tgi_double")]

CLIP = "<video>matching.mp4</video>"
ASKED: tuple[tuple[int, tuple[str | bytes, ...]], ...] = (
    (0, (CLIP, "Is the circle visible?")),
    (1, ("Which colour is the circle?",)),
    (2, (inline(2), "Which colour is the square?")),
    (3, ("<audio>crowded.mp4</audio>", CLIP, "Which sound is heard?")),
    (4, ("Is the square visible?", picture(4, 84, 56), "Is the circle visible?")),
)
NEW = {0: 9, 1: 4, 2: 7, 3: 6, 4: 8}


@pytest.fixture(scope="module")
def expected(served: Served) -> dict[int, Said]:
    return {number: served.alone(request(number)) for number in NEW}


def request(number: int) -> pb.Request:
    return ask(number, *ASKED[number][1], new=NEW[number])


def test_requests_that_come_and_go_are_answered_as_if_alone(
    served: Served, expected: dict[int, Said]
) -> None:
    shard = Shard(served)
    shard.prefill(0, request(0))
    shard.decode(0)
    shard.prefill(1, request(1), request(2))
    shard.decode(0, 1)
    shard.decode(0)
    shard.filter(0, 2, 0)
    shard.prefill(2, request(3))
    shard.prefill(3, request(4))
    shard.decode(0, 2, 3)
    shard.decode(0)
    shard.filter(0, 4, 2, 3)
    shard.finish()
    for number, said in shard.said.items():
        said.check(expected[number], whole=number in (2, 3, 4))
    assert shard.said.keys() == expected.keys()


def test_requests_of_one_prefill_are_answered_as_if_alone(
    served: Served, expected: dict[int, Said]
) -> None:
    shard = Shard(served)
    shard.prefill(7, *(request(number) for number in NEW))
    shard.finish()
    assert {number: said.tokens for number, said in shard.said.items()} == {
        number: said.tokens for number, said in expected.items()
    }


def test_the_requests_differ_and_were_pruned(served: Served, expected: dict[int, Said]) -> None:
    assert len({tuple(said.logprobs) for said in expected.values()}) == len(expected)
    _, cache = served.model.generation.prefill(served.batch(0, request(3)).past_key_values.prompts)
    counts = cache.report().tokens_per_layer
    assert counts[-1] < counts[0] < cache.report().token_map.length


def test_memory_returns_when_requests_leave(served: Served) -> None:
    shard = Shard(served)
    shard.prefill(0, request(1))
    shard.decode(0)
    short = shard.kv_bytes()
    shard.prefill(1, request(3))
    shard.decode(0, 1)
    # Padded to the longest, for both.
    assert shard.kv_bytes() > 4 * short
    shard.filter(0, 1)
    cache = shard.batches[0].past_key_values.cache
    length = cache.get_seq_length()
    assert length == shard.batches[0].max_input_length - 1
    # One token more than before, and nothing of the other request.
    assert shard.kv_bytes() * (length - 1) == short * length


def test_a_bad_request_touches_nothing(served: Served, expected: dict[int, Said]) -> None:
    shard = Shard(served)
    shard.prefill(0, request(0))
    bad = [
        ("![](../secret.png)", MediaError),
        ("<video>none.mp4</video>", MediaError),
        ("![](data:image/png;base64,AAAA)", MediaError),
        ("", PromptError),
        ("<|IMAGE|>", PromptError),
    ]
    for text, error in bad:
        with pytest.raises(error):
            shard.prefill(1, ask(1, text), request(2))
    with pytest.raises(MediaError):
        shard.prefill(1, ask(1, "Is the circle visible?", b"no picture"))
    shard.finish()
    shard.said[0].check(expected[0])


def test_what_cannot_be_filtered_or_joined_is_a_value_error(served: Served) -> None:
    shard = Shard(served)
    shard.prefill(0, request(0), request(1))
    batch = shard.batches[0]
    with pytest.raises(ValueError, match="no request 7"):
        batch.filter([7])
    with pytest.raises(ValueError):
        batch.filter([])
    assert batch.filter([1, 0]) is batch
    with pytest.raises(ValueError, match="prefilled"):
        type(batch).concatenate([batch, served.batch(1, request(2))])
    shard.finish()


def test_a_batch_that_counts_otherwise_than_its_cache_is_a_fault(served: Served) -> None:
    shard = Shard(served)
    shard.prefill(0, request(1))
    shard.batches[0].attention_mask = shard.batches[0].attention_mask[:, 1:]
    with pytest.raises(StateError, match="counts"):
        shard.decode(0)


def test_penalties_look_up_no_token_without_a_logit(served: Served) -> None:
    reader = served.model.batch_type.reader
    before, reader.vocabulary = reader.vocabulary, 20
    try:
        batch = served.batch(0, request(2))
    finally:
        reader.vocabulary = before
    assert int(batch.input_ids.max()) < 20
    assert int(batch.past_key_values.prompts[0].ids.max()) >= 20


@pytest.mark.parametrize("lengths", [(None, None), (30, 60)])
def test_the_routers_warm_up_is_served(
    served: Served, lengths: tuple[int | None, int | None]
) -> None:
    """A picture that its truncation cuts, the same id in every request, log-probabilities."""
    longest_input, longest = lengths
    new = 1 if longest is None else longest - 30
    requests = [
        ask(
            0,
            "_test " * truncate,
            *([picture(1, 20, 20)] if first else []),
            new=new,
            truncate=truncate,
            prefill_logprobs=True,
            top_n_tokens=20,
        )
        for first, truncate in ((True, 30), (False, 30), (False, 3))
    ]
    batch = served.batch(0, *requests)
    assert max(batch.input_lengths) <= 30
    assert not any(request.prefill_logprobs for request in batch.requests)
    supported, most_input, most = served.model.warmup(batch, longest_input, longest)
    assert supported is not None and supported >= most
    if longest is not None:
        assert (most_input, most) == lengths
