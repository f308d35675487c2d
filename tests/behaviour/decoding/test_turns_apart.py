"""Conversations that are copied, cropped, handed on or refused."""

from __future__ import annotations

import copy

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVError, attach, detach
from tests.support.cache_names import passing
from tests.support.cases import METHODS, assert_close, config_of, kv_lengths
from tests.support.families import FAMILIES, map_of
from tests.support.oracle import STEPS, run
from tests.support.prompts import Row, row, words
from tests.support.turns import conversation, later_inputs, talk, turns_of

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)
each_shape = pytest.mark.parametrize("shape", ["single", "ragged"])


@each_method
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen2_5_vl", "qwen3_vl", "gemma3"])
def test_a_copied_prefix_goes_two_ways(name: str, method: str) -> None:
    """The documented reuse of a prefix: deepcopy, then go on with words, or with more media."""
    long, short, _ = FAMILIES[name].rows()
    model = FAMILIES[name].model()
    prefix = FastAVCache(config_of(name, method))
    try:
        opening = talk(name, model, prefix, [[long]])
        layers = prefix.fastav_request.layers
        before = [layer.keys.clone() for layer in layers if layer.keys is not None]
        for later in ([row(words(31, 9))], [short]):
            inputs = later_inputs(name, FAMILIES[name].batch([long]), opening[0].tokens, later)
            mine = run(model, inputs, copy.deepcopy(prefix))
            afresh = talk(name, model, FastAVCache(config_of(name, method)), [[long], later])
            assert torch.equal(mine.logits, afresh[1].logits)
        for layer, keys in zip(layers, before, strict=True):
            assert layer.keys is not None
            assert torch.equal(layer.keys, keys)
    finally:
        detach(model)


@each_method
@pytest.mark.parametrize("name", ["omni_all", "llava"])
def test_an_attached_model_goes_on_with_the_cache_it_gave_back(name: str, method: str) -> None:
    turns = turns_of(name, "ragged")
    model = FAMILIES[name].model()
    expected = talk(name, model, FastAVCache(config_of(name, method)), turns)
    detach(model)
    attach(model, config_of(name, method))
    try:
        mine = talk(name, model, None, turns)
    finally:
        detach(model)
    for turn, other in zip(mine, expected, strict=True):
        assert torch.equal(turn.logits, other.logits)


def test_a_later_turn_with_little_media_is_not_cut() -> None:
    long, short, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav", min_media_tokens=17))
    try:
        talk("llava", model, cache, [[long], [short]])
    finally:
        detach(model)
    last = cache.fastav_request.layers[-1].positions[0]
    assert int((last >= len(long)).sum()) == STEPS + len(short) + STEPS - 1
    assert int((last < len(long)).sum()) < len(long)


def test_a_later_turn_in_chunks_is_refused() -> None:
    long, short, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        opening = talk("llava", model, cache, [[long]])[0]
        inputs = later_inputs("llava", FAMILIES["llava"].batch([long]), opening.tokens, [short])
        with pytest.raises(FastAVError, match="chunks"):
            run(model, inputs, cache, prefill_chunk_size=8)
        assert cache.get_seq_length() == len(long) + STEPS - 1
    finally:
        detach(model)


def test_a_map_that_does_not_fit_the_conversation_is_refused() -> None:
    long, short, _ = FAMILIES["qwen2_text"].rows()
    model = FAMILIES["qwen2_text"].model()
    cache = FastAVCache(config_of("qwen2_text", "fastav"))
    try:
        opening = talk("qwen2_text", model, cache, [[long]])[0]
        assert cache.tokens is not None
        cache.tokens = cache.tokens.extend(STEPS + len(short) + 1)
        family = FAMILIES["qwen2_text"]
        inputs = later_inputs("qwen2_text", family.batch([long]), opening.tokens, [short])
        with pytest.raises(FastAVError, match="TokenMap describes"):
            run(model, inputs, cache)
    finally:
        detach(model)


def test_taking_a_turn_back() -> None:
    """Decoded tokens go; pruned ones cannot, and then nothing has changed."""
    turns = turns_of("llava", "single")
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        talk("llava", model, cache, turns)
    finally:
        detach(model)
    cache.crop(-(STEPS - 1))
    assert cache.get_seq_length() == conversation(turns)
    before = [layer.positions for layer in cache.fastav_request.layers]
    with pytest.raises(FastAVError, match="pruned"):
        cache.crop(-len(turns[1][0]))
    for layer, positions in zip(cache.fastav_request.layers, before, strict=True):
        assert torch.equal(layer.positions, positions)


@torch.no_grad()
def test_renumbering_goes_on_where_the_survivors_end() -> None:
    """Stock on the survivors of both turns as one prompt gives what the second turn gives."""
    turns = turns_of("llava", "single")
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "divprune", positions="renumbered"))
    try:
        mine = talk("llava", model, cache, turns)
    finally:
        detach(model)
    inputs = later_inputs("llava", FAMILIES["llava"].batch(turns[0]), mine[0].tokens, turns[1])
    both = FAMILIES["llava"].batch(turns[0] + turns[1])
    kept = cache.report().kept_positions(0)
    entering: list[torch.Tensor] = []
    layer = model.model.language_model.layers[0]
    handle = layer.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    model(input_ids=inputs["input_ids"], pixel_values=both["pixel_values"])
    handle.remove()
    output = model(inputs_embeds=entering[0][:, kept])
    assert len(kept) < conversation(turns)
    assert_close(mine[1].logits[0], output.logits[:, -1])


def test_a_cache_goes_on_after_its_model_was_detached_and_attached() -> None:
    turns = turns_of("llava", "single")
    model = FAMILIES["llava"].model()
    expected = talk("llava", model, FastAVCache(config_of("llava", "fastav")), turns)
    detach(model)
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        opening = talk("llava", model, cache, turns[:1])[0]
        detach(model)
        attach(model, config_of("llava", "divprune"))
        inputs = FAMILIES["llava"].batch(turns[0])
        mine = run(model, later_inputs("llava", inputs, opening.tokens, turns[1]), cache)
    finally:
        detach(model)
    assert torch.equal(mine.logits, expected[1].logits)


def test_another_batch_is_refused_before_any_layer_changes() -> None:
    long, short, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    ids = torch.ones((2, 5), dtype=torch.int64)
    try:
        talk("llava", model, cache, [[long]])
        before = kv_lengths(cache)
        with pytest.raises(FastAVError, match="batch size is 1, the input's batch size is 2"):
            model(input_ids=ids, **passing(cache))
        assert kv_lengths(cache) == before
    finally:
        detach(model)


@torch.no_grad()
def test_taking_all_back_where_nothing_was_cut() -> None:
    long, short, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        model(input_ids=torch.ones((1, 5), dtype=torch.int64), **passing(cache))
        with pytest.raises(FastAVError, match="has seen 5"):
            cache.crop(-6)
        cache.crop(-5)
        assert cache.get_seq_length() == 0
        mine = talk("llava", model, cache, [[long]])[0]
        expected = talk("llava", model, FastAVCache(config_of("llava", "fastav")), [[long]])[0]
    finally:
        detach(model)
    assert torch.equal(mine.logits, expected.logits)


def test_drafts_in_a_later_turn_are_refused() -> None:
    """transformers would feed the whole conversation again, with any cache."""
    long, _, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        opening = talk("llava", model, cache, [[long]])[0]
        inputs = later_inputs(
            "llava", FAMILIES["llava"].batch([long]), opening.tokens, [row(words(31, 9))]
        )
        with pytest.raises(FastAVError, match="without drafts"):
            run(model, inputs, cache, prompt_lookup_num_tokens=3)
        assert cache.get_seq_length() == len(long) + STEPS - 1
    finally:
        detach(model)


def test_another_question_about_a_mapped_prompt() -> None:
    """What `crop` takes back is gone from the caller's map too."""
    long, _, _ = FAMILIES["qwen2_text"].rows()
    model = FAMILIES["qwen2_text"].model()
    family = FAMILIES["qwen2_text"]
    cache = FastAVCache(config_of("qwen2_text", "divprune"))
    question = row(words(31, 9))
    kept = Row(long.pieces[:-1])
    try:
        talk("qwen2_text", model, cache, [[long]])
        cache.crop(len(kept) - cache.get_seq_length())
        inputs = family.batch([Row((*kept.pieces, *question.pieces))])
        mine = run(model, inputs, cache)
        afresh = FastAVCache(cache.config, map_of([Row((*kept.pieces, *question.pieces))]))
        expected = run(model, inputs, afresh)
    finally:
        detach(model)
    assert torch.equal(mine.tokens, expected.tokens)
    assert_close(mine.logits, expected.logits)
