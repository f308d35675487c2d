"""How a forward pass of the text model becomes a prefill or a decode step of its request.

A prompt is read, checked, made into a Prefill and recorded, in this order and once.
"""

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.functional.hashing import fingerprints
from fastav_plugin.pruning.decode import Decode
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.prompt import GenerateContext, Prompt, Reason, hooks_by_place
from fastav_plugin.pruning.prompt_checks import (
    check_context,
    check_given_map,
    check_given_padding,
    check_prompt,
)
from fastav_plugin.pruning.request import Request
from fastav_plugin.pruning.rope_deltas import measure_deltas
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import (
    DEEPSTACK_FEATURES,
    DEEPSTACK_PLACES,
    MASK,
    POSITIONS,
)

logger = logging.getLogger(__name__)


def open_prefill(
    request: Request, call: dict[str, Any], named: dict[str, Any], source: Tensor
) -> Prefill | None:
    """Begin the prefill of a prompt, or of a later turn; it is checked first.

    Args:
        request: of the cache.
        call: keywords of the head's call.
        named: keywords of the text model's call.
        source: the tokens among these, [B, T] ids or [B, T, C] embeddings.

    Returns:
        None for tokens after the first prompt of which no hook is asked: drafts, text-only turns.
    """
    replaced, request.replaced_cache = request.replaced_cache, None
    context = GenerateContext.read(call, source, request.seen_tokens, replaced)
    check_context(context, call)
    prefill = None if context.only_drafts else _make_prefill(request, context, call, source)
    _record(request, context, prefill, call, named)
    # An attached model's generate() says at its end what its caches dropped, a server as it likes.
    given = prefill is not None and not context.direct and replaced is None
    request.unlogged = given and logger.isEnabledFor(logging.INFO)
    return prefill


def _make_prefill(
    request: Request, context: GenerateContext, call: dict[str, Any], source: Tensor
) -> Prefill | None:
    model = request.model
    assert model is not None
    token_map = _read_token_map(request, context).to(source.device)
    prompt = Prompt(
        token_map,
        request.config,
        hooks_by_place(request.hooks, len(model.layers)),
        past=context.past,
        drafted=context.drafted,
        shift=request.facts.shift if context.past else None,
        fingerprint=_fingerprint(call.get("input_ids"), token_map, context.drafted),
    )
    if prompt.past and prompt.reason is not None:
        return None
    check_prompt(prompt, context, call, model)
    return Prefill(prompt, model.decoder, request.record_shift, request.listener)


def _read_token_map(request: Request, context: GenerateContext) -> TokenMap:
    """The caller's map of these tokens, or the override's; drafts are text."""
    given, length = request.facts.given_map, context.length
    if given is not None and context.past:
        # A map that ends before this turn is still the one of an earlier prompt.
        new = given.length - context.past
        given = given.last(new) if new > 0 else None
    if given is not None:
        check_given_map(given, context)
        given = given.fit(context.batch, length, context.drafted)
        check_given_padding(given, context.mask)
        return given
    ids = context.inputs.get("input_ids")
    if ids is None:
        # Nothing says where the media are, so nothing is cut.
        ids = torch.full((context.batch, length), -1, dtype=torch.int64)
    assert request.model is not None
    model, inputs = request.model, dict(context.inputs)
    found = model.override.token_map(model.config, ids, context.mask, inputs)
    return found.first(length - context.drafted).extend(context.drafted)


def _fingerprint(ids: Any, token_map: TokenMap, drafted: int) -> Tensor | None:
    """A number for each prompt, drafts left out; None where it came as embeddings."""
    length = token_map.length - drafted
    if not isinstance(ids, Tensor) or ids.shape[:2] != (token_map.rows, token_map.length):
        return None
    return fingerprints(ids[:, :length], token_map.valid[:, :length].to(ids.device))


def _record(
    request: Request,
    context: GenerateContext,
    prefill: Prefill | None,
    call: dict[str, Any],
    named: dict[str, Any],
) -> None:
    """Note in the request what its positions are now, as far as hooks were asked."""
    if prefill is not None:
        if context.past:
            _hide_padding(request, call.get(MASK), context)
        _record_turn(request, context, prefill, call.get("input_ids"))
    if context.length > 1:
        deltas = measure_deltas(request.facts, named.get(POSITIONS), context.past + context.length)
        request.facts = replace(request.facts, rope_deltas=deltas)


def _hide_padding(request: Request, mask: Any, context: GenerateContext) -> None:
    """Tokens of earlier turns that this turn's attention mask hides are padding from now on."""
    length = context.past + context.length
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == length:
        real = mask[:, : context.past] != 0
        if not bool(real.all()):
            request.hide(real)


def _record_turn(request: Request, context: GenerateContext, prefill: Prefill, ids: Any) -> None:
    facts, reason = request.facts, prefill.reason
    token_map = prefill.prompt.token_map.first(context.length - context.drafted)
    if context.past:
        token_map = facts.extended(context.past).followed_by(token_map)
    if ids is None and facts.given_map is None:
        reason = Reason.EMBEDDINGS
    rows = torch.zeros_like(token_map.segment[:, 0])
    overhead = prefill.account.macs  # filled in place while the layers are entered
    if context.past and facts.overhead is not None:
        overhead += facts.overhead.to(overhead.device)
    request.facts = replace(
        facts,
        token_map=token_map,
        prompt_end=rows + token_map.length,
        reason=rows + (reason or 0),
        overhead=overhead,
    )
    if (
        not context.past
        and isinstance(ids, Tensor)
        and ids.shape == (context.batch, context.length)
    ):
        request.facts = request.facts.opened(ids, token_map.length)


def begin_decode(request: Request, named: dict[str, Any], source: Tensor, flash: bool) -> None:
    """Begin a forward of which no hook is asked; arguments as of `open_prefill`."""
    request.forward = Decode(source.shape[1], flash)
    _shift_positions(request, named, source)


def begin_prefill(
    request: Request, prefill: Prefill, named: dict[str, Any], source: Tensor
) -> None:
    """Begin what `open_prefill` made: the entrance cut is picked, if its hooks can see it yet."""
    if request.seen_tokens:
        _shift_positions(request, named, source)
    request.forward = prefill
    if named.get("inputs_embeds") is not None and prefill.reason is None:
        kept = prefill.pick_entrance(named["inputs_embeds"])
        if kept is not None:
            _cut_deepstack(named, kept, prefill)


def _shift_positions(request: Request, named: dict[str, Any], source: Tensor) -> None:
    """Continue renumbered positions where the survivors of the prompt end."""
    shift, past = request.facts.shift, request.seen_tokens
    if shift is None:
        return
    positions = named.get(POSITIONS)
    if positions is None:
        positions = torch.arange(past, past + source.shape[1], device=source.device)[None]
    named[POSITIONS] = positions - shift.to(positions.device)[:, None]


def _cut_deepstack(named: dict[str, Any], kept: Tensor, prefill: Prefill) -> None:
    """Shorten what the text model's loop adds per token, as the entrance cut will."""
    visual = named.get(DEEPSTACK_PLACES)
    if visual is None:
        return
    kept = kept.to(visual.device)
    index, valid = prefill.survivors.index, prefill.survivors.held.valid
    assert index is not None
    survivors = kept[visual]
    masks = visual.gather(1, index.to(visual.device))
    named[DEEPSTACK_PLACES] = masks if valid is None else masks & valid.to(visual.device)
    embeds = named.get(DEEPSTACK_FEATURES)
    if embeds is not None:
        named[DEEPSTACK_FEATURES] = [item[survivors.to(item.device)] for item in embeds]
