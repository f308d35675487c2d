"""DivPrune as published: survivors are numbered anew, as if the dropped tokens had never been."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVError, detach
from tests.support.cache_names import passing
from tests.support.cases import GLOBAL, assert_close, config_of, prune, rows_of
from tests.support.families import FAMILIES
from tests.support.model_types import require_repeated_prompts
from tests.support.oracle import Run, decoder_layers, hidden, run
from tests.support.prompts import Row

PLAIN_ROTARY = ["llava", "llava_next", "llava_onevision", "llava_next_video", "llama_text"]
each_name = pytest.mark.parametrize("name", [*PLAIN_ROTARY, "gemma3"])
each_shape = pytest.mark.parametrize("shape", ["single", "ragged", "level", "lopsided"])


def _entrance(model: Any, inputs: dict[str, Any]) -> Tensor:
    """What enters the first layer of the stock model: float32 [B, T, C]."""
    found: list[Tensor] = []
    layer = decoder_layers(model)[0]
    handle = layer.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    try:
        run(model, inputs, steps=1)
    finally:
        handle.remove()
    return found[0]


def _shortened(name: str, items: list[Row], held: list[Tensor]) -> tuple[dict[str, Any], Tensor]:
    """Inputs of the survivors alone, left-padded, and which prompt column each one was."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(items)
    real = held[0] & inputs["attention_mask"].bool()
    states = _entrance(model, inputs)
    width = int(real.sum(dim=1).max())
    embeds = torch.zeros(len(items), width, states.shape[2])
    mask = torch.zeros(len(items), width, dtype=torch.int64)
    columns = torch.full((len(items), width), -1)
    for row, kept in enumerate(real):
        count = int(kept.sum())
        embeds[row, width - count :] = states[row, kept]
        mask[row, width - count :] = 1
        columns[row, width - count :] = kept.nonzero().flatten()
    return {"inputs_embeds": embeds, "attention_mask": mask}, columns


def _say(model: Any, inputs: dict[str, Any], held: list[Tensor], tokens: Tensor) -> Tensor:
    """Logits of the stock model that is given embeddings and says `tokens`."""
    text: Any = model
    cache = transformers.DynamicCache()
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    found = []
    with hidden(text, held):
        states: dict[str, Any] = {"inputs_embeds": inputs["inputs_embeds"]}
        for step in range(tokens.shape[1]):
            logits = text(
                **states, attention_mask=mask, position_ids=positions, **passing(cache)
            ).logits
            found.append(logits[:, -1])
            states = {"input_ids": tokens[:, step : step + 1]}
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1
    return torch.stack(found)


@pytest.mark.parametrize("method", ["divprune", "fastav+divprune"])
@each_shape
@pytest.mark.parametrize("name", PLAIN_ROTARY)
def test_renumbered_is_the_stock_model_on_the_survivors(name: str, shape: str, method: str) -> None:
    items = rows_of(name, shape)
    result = prune(name, "sdpa", items, config_of(name, method, positions="renumbered"))
    inputs, columns = _shortened(name, items, result.held)
    # The later cuts, in columns of the shortened prompt.
    held = [
        torch.where(columns >= 0, mask.gather(1, columns.clamp(min=0)), False)
        for mask in result.held
    ]
    assert all(bool((mask == (columns >= 0)).all()) for mask in held[:GLOBAL])
    model = FAMILIES[name].model("sdpa")
    with torch.no_grad():
        assert_close(result.run.logits, _say(model, inputs, held, result.run.tokens))


@each_shape
@each_name
def test_renumbering_changes_only_positions(name: str, shape: str) -> None:
    """The same tokens survive, layer 0 sees them, and the answer differs from the original's."""
    items = rows_of(name, shape)
    first = prune(name, "sdpa", items, config_of(name, "divprune"))
    second = prune(name, "sdpa", items, config_of(name, "divprune", positions="renumbered"))
    for mine, other in zip(first.held, second.held, strict=True):
        assert torch.equal(mine, other)
    assert (first.run.logits[0, 0] - second.run.logits[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", PLAIN_ROTARY)
def test_renumbered_later_turns_and_beams(name: str) -> None:
    """Tokens after the prompt go on where the survivors end, one by one or several at once."""
    require_repeated_prompts(name)
    items = rows_of(name, "ragged")
    config = config_of(name, "divprune", positions="renumbered")
    family = FAMILIES[name]
    inputs = family.batch(items)
    single = prune(name, "sdpa", items, config)
    twins = prune(name, "sdpa", items, config, forced=single.run.tokens, num_return_sequences=1)
    assert torch.equal(twins.run.logits, single.run.logits)
    beams: Run = prune(name, "sdpa", items, config, num_beams=2).run
    again = prune(name, "sdpa", items, config, num_beams=2).run
    assert torch.equal(beams.output.sequences, again.output.sequences)

    # All of an answer at once gives the logits of saying it word by word.
    cache = FastAVCache(config, family.token_map(items))
    model = family.model("sdpa")
    tokens = single.run.tokens
    try:
        run(model, inputs, cache, forced=tokens, steps=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, tokens.shape[1] - 1), value=1)
        positions = (mask.cumsum(dim=1) - 1)[:, -(tokens.shape[1] - 1) :]
        with torch.no_grad():
            logits = model(
                input_ids=tokens[:, :-1],
                attention_mask=mask,
                position_ids=positions,
                **passing(cache),
            ).logits
    finally:
        detach(model)
    assert_close(logits.transpose(0, 1), single.run.logits[1:])


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "omni_video"])
def test_multidimensional_positions_are_not_renumbered(name: str) -> None:
    items = rows_of(name, "single")
    with pytest.raises(FastAVError, match="original"):
        prune(name, "sdpa", items, config_of(name, "divprune", positions="renumbered"))
