"""Conversations: a first prompt, its answer, and a second generate() with the same cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import FastAVCache
from fastav_plugin.upstream.arguments import cache_in
from tests.support.families import KNOWN
from tests.support.oracle import STEPS, Run, hidden, run
from tests.support.prompts import KINDS, Row

Turns = Sequence[list[Row]]
Said = Sequence[Tensor] | None

#: Token types that are looked up by position in the input, not in the conversation.
_OF_THE_TURN = ("mm_token_type_ids",)
_BY_POSITION = ("input_ids", "attention_mask", "token_type_ids", *_OF_THE_TURN)


def later_inputs(
    name: str, before: dict[str, Any], answers: Tensor, rows: list[Row]
) -> dict[str, Any]:
    """Inputs of a later turn: all ids so far, and the media of this turn alone.

    It is what transformers wants: all media again would be one too many for the ids it slices.
    """
    now = KNOWN[name].batch(rows)
    inputs = {key: value for key, value in now.items() if key not in _BY_POSITION}
    blank = torch.ones_like(answers)
    inputs["input_ids"] = torch.cat([before["input_ids"], answers, now["input_ids"]], dim=1)
    inputs["attention_mask"] = torch.cat(
        [before["attention_mask"], blank, now["attention_mask"]], dim=1
    )
    for key in set(_OF_THE_TURN) & now.keys():
        # With media behind it, transformers reads them from the turn's first token on.
        seen = bool((before["input_ids"] >= min(KINDS)).any())
        width = inputs["input_ids"].shape[1] - now[key].shape[1]
        inputs[key] = now[key] if seen else torch.nn.functional.pad(now[key], (width, 0))
    if "token_type_ids" in before:
        types = [before["token_type_ids"], 0 * blank, now["token_type_ids"]]
        inputs["token_type_ids"] = torch.cat(types, dim=1)
    return inputs


def talk(
    name: str,
    model: Any,
    cache: Any,
    turns: Turns,
    *,
    said: Said = None,
    early: Mapping[int, int] | None = None,
) -> list[Run]:
    """All turns with one cache; a caller's map grows with the conversation.

    Args:
        name: of the family.
        model: what answers.
        cache: a FastAVCache, or None for the stock model's own.
        turns: the prompts of each turn.
        said: the answers to give, int64 [B, steps] each; None for the model's own.
        early: for batch rows whose first answer ended early, its length.
    """
    family = KNOWN[name]
    inputs: dict[str, Any] = {}
    found: list[Run] = []
    for number, rows in enumerate(turns):
        mapped = family.token_map(rows)
        if found:
            answers = found[-1].tokens
            inputs = later_inputs(name, inputs, answers, rows)
            for item, length in (early or {}).items() if len(found) == 1 else ():
                width = len(inputs["attention_mask"][item]) - max(map(len, rows))
                inputs["attention_mask"][item, width - answers.shape[1] + length : width] = 0
        else:
            inputs = family.batch(rows)
        if mapped is not None and isinstance(cache, FastAVCache):
            known = cache.tokens
            past = inputs["input_ids"].shape[1] - mapped.length
            if found and known is not None:
                mapped = known.extend(past - known.length).followed_by(mapped)
                mapped = mapped.padded(inputs["attention_mask"] == 0)
            cache.tokens = mapped
        answer = None if said is None else said[number]
        found.append(run(model, inputs, cache, forced=answer))
        cache = cache_in(found[-1].output)
    return found


def masked_talk(
    name: str,
    model: Any,
    held: list[Tensor],
    turns: Turns,
    said: Said,
    *,
    early: Mapping[int, int] | None = None,
) -> list[Run]:
    """All turns of the stock model, in which each layer sees only the tokens `held`."""
    with hidden(model, held):
        return talk(name, model, None, turns, said=said, early=early)


def turns_of(name: str, shape: str) -> list[list[Row]]:
    """Prompts of two turns; ragged ones have media in other batch rows in the second turn."""
    long, short, none = KNOWN[name].rows()
    if shape == "single":
        return [[long], [short]]
    return [[long, short, none], [short, none, long]]


def conversation(turns: list[list[Row]]) -> int:
    """Positions up to the end of the last prompt, padding included."""
    return sum(max(map(len, rows)) for rows in turns) + STEPS * (len(turns) - 1)
