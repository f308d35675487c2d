"""Many turns: new media is pruned by the same rules, what is held stays, positions continue."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVError, attach, detach
from tests.cases import (
    ATTENTIONS,
    METHODS,
    assert_close,
    config_of,
    keep_all_config,
    kv_lengths,
)
from tests.families import FAMILIES, map_of
from tests.flash_stand_in import flash_model, flash_registered
from tests.flex import FLEX, uncompiled_flex
from tests.oracle import STEPS, held_rows, run
from tests.prompts import Row, row, words
from tests.turns import later_inputs, masked_talk, talk

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)
each_shape = pytest.mark.parametrize("shape", ["single", "ragged"])


def turns_of(name: str, shape: str) -> list[list[Row]]:
    """Prompts of two turns; ragged ones bring media to other rows in the second turn."""
    long, short, none = FAMILIES[name].rows()
    if shape == "single":
        return [[long], [short]]
    return [[long, short, none], [short, none, long]]


def conversation(turns: list[list[Row]]) -> int:
    """Positions up to the end of the last prompt, padding included."""
    return sum(max(map(len, rows)) for rows in turns) + STEPS * (len(turns) - 1)


def assert_masked_dense(name: str, model: Any, cache: FastAVCache, turns: list[list[Row]]) -> None:
    """Talk with the cache, and say the same with the stock model."""
    try:
        mine = talk(name, model, cache, turns)
    finally:
        detach(model)
    held = held_rows(cache, conversation(turns))
    masked = masked_talk(name, model, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@each_method
@each_shape
@pytest.mark.parametrize("attention", ATTENTIONS)
@each_family
def test_both_turns_equal_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, FAMILIES[name].model(attention), cache, turns)
    first = sum(len(item) for item in turns[0])
    later = [int(layer.sum()) for layer in held_rows(cache, conversation(turns))]
    assert later[-1] < first + sum(len(item) for item in turns[1])
    report = cache.report(row=None)
    kinds = {kind for rows in turns for item in rows for kind in item.kinds}
    assert {kind.upper() for kind in report.modality_per_layer} == {kind.name for kind in kinds}
    assert report.token_map.length == conversation(turns)
    assert report.flops_ratio < 1


@each_method
@each_shape
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen3_vl"])
def test_under_flash_attention(name: str, shape: str, method: str) -> None:
    """The stand-in takes 2-D masks over what each layer holds, and says what sdpa does."""
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    with flash_registered():
        mine = talk(name, flash_model(name), cache, turns)
    held = held_rows(cache, conversation(turns))
    stock = FAMILIES[name].model()
    masked = masked_talk(name, stock, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@each_method
@pytest.mark.parametrize("attention", ["sdpa", "flash"])
@pytest.mark.parametrize("ended", ["words between", "early"])
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen2_text"])
def test_padding_amid_the_conversation(name: str, ended: str, attention: str, method: str) -> None:
    """A turn of words of two lengths, and an answer that the next turn's mask cuts short."""
    long, short, _ = FAMILIES[name].rows()
    between = [row(words(31, 9)), row(words(32, 3))]
    turns = [[long, short], [short, long]]
    if ended == "words between":
        turns.insert(1, between)
    early = {1: 2} if ended == "early" else {}
    cache = FastAVCache(config_of(name, method))
    with flash_registered() if attention == "flash" else nullcontext():
        model = flash_model(name) if attention == "flash" else FAMILIES[name].model()
        try:
            mine = talk(name, model, cache, turns, early=early)
        finally:
            detach(model)
    held = held_rows(cache, conversation(turns))
    said = [turn.tokens for turn in mine]
    masked = masked_talk(name, FAMILIES[name].model(), held, turns, said, early=early)
    # While it was said, the end of the answer was there.
    assert_close(mine[-1].logits, masked[-1].logits)


@pytest.mark.parametrize(
    ("name", "shape", "method"),
    [
        ("gemma3", "ragged", "fastav+divprune"),
        *(
            pytest.param(name, shape, method, marks=pytest.mark.slow)
            for name in ("llava", "gemma3")
            for shape in ("single", "ragged")
            for method in METHODS
        ),
    ],
)
def test_under_flex_attention(name: str, shape: str, method: str) -> None:
    """A BlockMask from the rows of a turn to what each layer holds of the earlier ones."""
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    with uncompiled_flex():
        mine = talk(name, FAMILIES[name].model(FLEX), cache, turns)
    detach(FAMILIES[name].model(FLEX))
    held = held_rows(cache, conversation(turns))
    stock = FAMILIES[name].model()
    masked = masked_talk(name, stock, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@pytest.mark.parametrize("how", ["hooks", "ratios"])
@each_shape
@each_family
def test_keep_all_is_stock_in_both_turns(name: str, shape: str, how: str) -> None:
    turns = turns_of(name, shape)
    model = FAMILIES[name].model()
    try:
        mine = talk(name, model, FastAVCache(keep_all_config(name, how)), turns)
    finally:
        detach(model)
    for turn, stock in zip(mine, talk(name, model, None, turns), strict=True):
        assert torch.equal(turn.logits, stock.logits)


@each_method
@each_family
def test_media_words_media(name: str, method: str) -> None:
    """Three turns; the one of words cuts nothing, and the next one cuts again."""
    long, short, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    turns = [[long], [row(words(31, 9))], [short]]
    assert_masked_dense(name, FAMILIES[name].model(), cache, turns)
    start = len(long) + STEPS
    assert all(
        set(range(start, start + 9)) <= set(cache.report().kept_positions(layer, "text"))
        for layer in range(len(cache.layers))
    )


@each_method
@each_family
def test_media_after_a_prefix_of_words(name: str, method: str) -> None:
    """A system prompt that many requests share: nothing to cut in it, and all after it."""
    long, _, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, FAMILIES[name].model(), cache, [[row(words(31, 9))], [long]])
    report = cache.report()
    assert report.reason is None
    assert report.flops_ratio < 1


@each_method
@each_family
def test_a_question_about_earlier_media(name: str, method: str) -> None:
    """Words alone: nothing is cut, and each layer answers from what it holds."""
    long, _, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    model = FAMILIES[name].model()
    talk(name, model, cache, [[long]])
    before = [layer.positions for layer in cache.fastav_state.layers]
    detach(model)
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, model, cache, [[long], [row(words(31, 9))]])
    for layer, held in zip(cache.fastav_state.layers, before, strict=True):
        assert torch.equal(layer.positions[:, : held.shape[1]], held)
        assert layer.rows == held.shape[1] + 1 + 9 + STEPS - 1


@each_method
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen2_5_vl", "qwen3_vl", "gemma3"])
def test_a_copied_prefix_goes_two_ways(name: str, method: str) -> None:
    """The documented reuse of a prefix: deepcopy, then go on with words, or with more media."""
    long, short, _ = FAMILIES[name].rows()
    model = FAMILIES[name].model()
    prefix = FastAVCache(config_of(name, method))
    try:
        opening = talk(name, model, prefix, [[long]])
        layers = prefix.fastav_state.layers
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
    last = cache.fastav_state.layers[-1].positions[0]
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
    """Decoded rows go; pruned rows cannot, and then nothing has changed."""
    turns = turns_of("llava", "single")
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        talk("llava", model, cache, turns)
    finally:
        detach(model)
    cache.crop(-(STEPS - 1))
    assert cache.get_seq_length() == conversation(turns)
    before = [layer.positions for layer in cache.fastav_state.layers]
    with pytest.raises(FastAVError, match="pruned"):
        cache.crop(-len(turns[1][0]))
    for layer, positions in zip(cache.fastav_state.layers, before, strict=True):
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
        with pytest.raises(FastAVError, match="holds 1 batch rows and the model brings 2"):
            model(input_ids=ids, past_key_values=cache)
        assert kv_lengths(cache) == before
    finally:
        detach(model)


@torch.no_grad()
def test_taking_all_back_where_nothing_was_cut() -> None:
    long, short, _ = FAMILIES["llava"].rows()
    model = FAMILIES["llava"].model()
    cache = FastAVCache(config_of("llava", "fastav"))
    try:
        model(input_ids=torch.ones((1, 5), dtype=torch.int64), past_key_values=cache)
        with pytest.raises(FastAVError, match="has brought 5"):
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
