"""A FastAVCache that holds one prompt is not continued with another; every right use goes on."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, StateError, TokenMap, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.behaviour.decoding.test_conversations import longer
from tests.support.cache_names import passing
from tests.support.cases import config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.oracle import run
from tests.support.small_models import LENGTH, cache, config, generate, prompt, qwen2, same, tokens

REMEDY = r"holds another prompt: .*Make a new FastAVCache\(cfg\) for each prompt"


@pytest.fixture(scope="module")
def model() -> Any:
    return qwen2()


def filled(model: Any, **settings: Any) -> tuple[Any, Tensor]:
    """A cache after one turn, and all ids so far."""
    past = cache()
    return past, generate(model, prompt(), past, **settings).sequences


def asked(ids: Tensor, seed: int = 5, words: int = 7) -> Tensor:
    """Ids with a question behind them."""
    return torch.cat([ids, prompt(seed, batch=len(ids), length=words)], dim=1)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "of its length": lambda ids: prompt(1),
    "the same again": lambda ids: prompt(),
    "as long as what it has seen": lambda ids: ids[:, :-1],
    "longer": lambda ids: prompt(1, length=50),
    "with another beginning": lambda ids: torch.cat(
        [prompt(1, length=1), asked(ids)[:, 1:]], dim=1
    ),
    "with another end": lambda ids: torch.cat(
        [ids[:, : LENGTH - 5], prompt(1, length=1), asked(ids)[:, LENGTH - 4 :]], dim=1
    ),
    "shifted by one": lambda ids: asked(ids)[:, 1:],
}


@pytest.mark.parametrize("kept", [lambda past: past, copy.deepcopy, copy.copy, pickle.dumps])
@pytest.mark.parametrize("name", OTHERS)
def test_another_prompt_is_refused(model: Any, name: str, kept: Callable[[Any], Any]) -> None:
    past, ids = filled(model)
    past = pickle.loads(kept(past)) if kept is pickle.dumps else kept(past)
    with pytest.raises(StateError, match=REMEDY):
        generate(model, OTHERS[name](ids), past)
    # Nothing was changed.
    expected = generate(model, asked(ids), filled(model)[0])
    assert same(generate(model, asked(ids), past), expected)


def test_a_reset_cache_takes_any(model: Any) -> None:
    past, _ = filled(model)
    past.reset()
    assert same(generate(model, prompt(1), past), generate(model, prompt(1), cache()))


def test_an_attached_models_cache_is_refused_too(model: Any) -> None:
    family = FAMILIES["llava"]
    model, inputs = family.model("sdpa"), family.batch(rows_of("llava", "single"))
    attach(model, config_of("llava", "fastav"))
    try:
        first = run(model, inputs).output
        past = cache_in(first)
        assert isinstance(past, FastAVCache)
        with pytest.raises(StateError, match=REMEDY):
            run(model, inputs, past)
        run(model, longer(inputs, first.sequences), past)
    finally:
        detach(model)


def test_one_row_of_a_batch(model: Any) -> None:
    ids = prompt(batch=2)
    maps = TokenMap.batch([tokens()] * 2)
    past = FastAVCache(config(), maps)
    ids = generate(model, ids, past).sequences
    other = asked(ids)
    other[1, 3] = 79 - other[1, 3]
    with pytest.raises(StateError, match=REMEDY):
        generate(model, other, past)
    generate(model, asked(ids), past)


def test_a_prefix_that_was_filled_by_a_direct_call(model: Any) -> None:
    prefix = cache()
    with torch.no_grad():
        model(input_ids=prompt(), **passing(prefix))
    assert generate(model, asked(prompt()), copy.deepcopy(prefix), new=2).sequences.shape[1] == 39
    with pytest.raises(StateError, match=REMEDY):
        generate(model, asked(prompt(1)), copy.deepcopy(prefix))
    generate(model, asked(prompt(), seed=9), prefix)
    direct = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        model(input_ids=direct, **passing(prefix))  # new tokens alone: nothing says whose they are


# What goes on.


def test_three_turns(model: Any) -> None:
    past, ids = filled(model)
    for seed in (5, 6):
        ids = generate(model, asked(ids, seed), past).sequences
    with pytest.raises(StateError, match=REMEDY):
        generate(model, asked(prompt(1, length=ids.shape[1])), past)


def test_the_answer_may_be_tokenized_otherwise(model: Any) -> None:
    """With the prompt's last tokens; it is of the caller's making then."""
    past, ids = filled(model)
    changed = ids.clone()
    changed[:, LENGTH - 3 :] = 7
    generate(model, asked(changed), past)


def test_the_ids_of_the_new_turn_alone(model: Any) -> None:
    """With the mask of all of them, as transformers takes it, nothing says what came before."""
    past, ids = filled(model)
    new = prompt(5, length=8)
    mask = torch.ones(1, ids.shape[1] - 1 + 8, dtype=torch.int64)
    out = model.generate(
        new, attention_mask=mask, max_new_tokens=3, do_sample=False, **passing(past)
    )
    assert out.shape == (1, 11)
    assert past.get_seq_length() == mask.shape[1] + 2


def test_embeddings(model: Any) -> None:
    past, ids = filled(model)
    embeds = model.get_input_embeddings()(asked(prompt(1, length=ids.shape[1])))
    mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
    model.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        max_new_tokens=2,
        do_sample=False,
        **passing(past),
    )
    # Filled by embeddings, a cache knows its length alone.
    past = cache()
    embeds = model.get_input_embeddings()(prompt())
    mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
    inputs = {"inputs_embeds": embeds, "attention_mask": mask}
    model.generate(**inputs, max_new_tokens=3, do_sample=False, **passing(past))
    with pytest.raises(StateError, match="has seen 32 tokens, and input_ids has 30"):
        generate(model, prompt(), past)
    generate(model, prompt(2, length=40), past)


def test_cropped_answers_and_questions(model: Any) -> None:
    past, ids = filled(model)
    past.crop(-4)
    generate(model, asked(prompt(), seed=6), past)
    with pytest.raises(StateError, match=REMEDY):
        generate(model, prompt(1, length=60), past)
    # A question at the prompt's end is taken back, and another asked.
    past, ids = filled(model)
    past.crop(-7)
    begin = prompt()[:, : LENGTH - 3]
    ids = generate(model, asked(begin, seed=8), past).sequences
    generate(model, asked(ids, seed=9), past)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"prompt_lookup_num_tokens": 3},
        {"num_return_sequences": 2, "num_beams": 2},
    ],
)
def test_decoding_modes(model: Any, settings: dict[str, Any]) -> None:
    past, ids = filled(model, **settings)
    beams = {name: value for name, value in settings.items() if name == "num_beams"}
    with pytest.raises(StateError, match=REMEDY):
        generate(model, prompt(1, length=50), past, **beams)
    if "num_return_sequences" not in settings:
        generate(model, asked(ids), past, **beams)


def test_rows_that_were_moved(model: Any) -> None:
    ids = prompt(batch=2)
    ids[0, :3] = 0
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    maps = TokenMap.batch([TokenMap.from_spans(LENGTH - 3, video=[(2, 12)]), tokens()])
    past = FastAVCache(config(), maps)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, **passing(past))
    second, third = copy.deepcopy(past), copy.deepcopy(past)
    past.batch_select_indices(torch.tensor([1, 0]))
    second.keep_rows(torch.tensor([0]))  # three columns of padding less
    third.batch_repeat_interleave(2)

    def more(ids: Tensor, past: Any, mask: Tensor | None = None) -> None:
        ids = asked(ids)
        mask = (
            torch.ones_like(ids) if mask is None else torch.nn.functional.pad(mask, (0, 7), value=1)
        )
        model.generate(ids, attention_mask=mask, max_new_tokens=2, do_sample=False, **passing(past))

    with pytest.raises(StateError, match=REMEDY):
        more(ids, copy.deepcopy(past), mask)
    more(ids[[1, 0]], past, mask[[1, 0]])
    with pytest.raises(StateError, match=REMEDY):
        more(ids[1:], copy.deepcopy(second))
    more(ids[:1, 3:], second)
    more(ids[[0, 0, 1, 1]], third, mask[[0, 0, 1, 1]])


def test_stacked_requests(model: Any) -> None:
    """Requests of a server; padding and lengths are other ones than when they were filled."""
    short = FastAVCache(config(), tokens().first(20))
    long = cache()
    with torch.no_grad():
        model(input_ids=prompt()[:, :20], **passing(short))
        model(input_ids=prompt(3), **passing(long))
    both = FastAVCache.stack([short, long])
    ids = torch.cat([torch.nn.functional.pad(prompt()[:, :20], (10, 0)), prompt(3)])
    mask = (ids != 0).long()
    asked_ids, grown = asked(ids), torch.nn.functional.pad(mask, (0, 7), value=1)
    settings: dict[str, Any] = {"max_new_tokens": 2, "do_sample": False}
    with pytest.raises(StateError, match=REMEDY):
        model.generate(asked_ids.flip(0), attention_mask=grown.flip(0), **settings, **passing(both))
    model.generate(asked_ids, attention_mask=grown, **settings, **passing(both))


def test_answers_that_ended_early(model: Any) -> None:
    """A later turn's mask hides their ends, and may hide anything else."""
    ids = prompt(batch=2)
    past = FastAVCache(config(), TokenMap.batch([tokens()] * 2))
    ids = asked(generate(model, ids, past).sequences)
    mask = torch.ones_like(ids)
    mask[1, LENGTH + 1 : LENGTH + 3] = 0
    mask[0, 4:9] = 0
    settings: dict[str, Any] = {"max_new_tokens": 2, "do_sample": False}
    after = model.generate(ids, attention_mask=mask, **settings, **passing(past))
    more, mask = asked(after), torch.nn.functional.pad(mask, (0, 9), value=1)
    model.generate(more, attention_mask=mask, **settings, **passing(past))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_interleaved", "gemma3"])
def test_two_clips_of_one_length_and_one_question(name: str) -> None:
    """Their ids are equal: the second does not go on where the first ended, and so is refused."""
    family = FAMILIES[name]
    model, inputs = family.model("sdpa"), family.batch(rows_of(name, "single"))
    past = FastAVCache(config_of(name, "fastav"))
    try:
        run(model, inputs, past)
        with pytest.raises(StateError, match=REMEDY):
            run(model, inputs, past)
    finally:
        detach(model)
