"""What the text model is called with: the prompt read, and its arguments by row fitted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import TokenMapError, UnsupportedError
from fastav_plugin.functional.hashing import fingerprints
from fastav_plugin.layers.attention import takes_2d_masks
from fastav_plugin.layers.causality import refuse_other_attention
from fastav_plugin.model_overrides.base import ModelOverride, Parts
from fastav_plugin.pruning.prefill import Prefill, Setting
from fastav_plugin.pruning.request import State
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import (
    DEEPSTACK_FEATURES,
    DEEPSTACK_PLACES,
    MASK,
    POSITIONS,
    cache_of,
)
from fastav_plugin.upstream.attention import implementation
from fastav_plugin.upstream.generation import find_generate_call


def open_prefill(
    state: State, call: dict[str, Any], source: Tensor, parts: Parts, override: ModelOverride
) -> Prefill | None:
    """Begin the prefill of a prompt, or of a later turn, and note in the state what it is.

    Args:
        state: of the request's cache.
        call: keywords of the head's call.
        source: what the text model is called with, [B, T] ids or [B, T, C] embeddings.
        parts: the bound model.
        override: knowledge about its family.

    Returns:
        None for rows after the first prompt of which no hook is asked: drafts, turns of words.

    Raises:
        UnsupportedError: a chunked prompt, one wider than a sliding window under flash, or
            hidden states and attentions asked of assisted decoding.
        TokenMapError: the caller's TokenMap is of another prompt.
        StateError: the prompt is padded on the right.
    """
    rows, length = source.shape[:2]
    past = state.length
    generate = find_generate_call(cache_of(call), state.replaces)
    state.replaces = None
    if generate is not None and generate.prefill_chunk_size is not None:
        raise UnsupportedError(
            f"prefill_chunk_size={generate.prefill_chunk_size}: a prompt that comes in chunks "
            "cannot be pruned, because a cut needs all of it. Leave prefill_chunk_size unset."
        )
    if generate is not None and not call.get("use_cache", True):
        raise UnsupportedError(
            f"use_cache={call['use_cache']} makes generate() bring the whole prompt at every step, "
            "which a FastAVCache would append. Leave it out."
        )
    kept = call.get("logits_to_keep", 0)
    drafted = max(0, kept - 1, 0 if generate is None else generate.drafted)
    drafted = min(drafted, length - 1)
    if past and drafted == length - 1:
        return None
    if past and generate is not None and generate.assisted:
        raise UnsupportedError(
            "Drafts in a later turn: transformers feeds the conversation again, over the rows "
            "that the cache holds. Decode later turns without drafts, or start with a new cache."
        )
    expansion = 1 if generate is None else generate.expansion
    inputs = call
    if generate is not None:
        of_rows = dict.fromkeys((MASK, POSITIONS, "input_ids"))
        inputs = {**generate.inputs, **of_rows, **call}
    token_map = _token_map(state, inputs, (rows, length, drafted, expansion), parts, override)
    flash = takes_2d_masks(base_attention(parts))
    prefill = Prefill(
        state.hooks,
        token_map.to(source.device),
        Setting(
            num_layers=len(parts.layers),
            flash=flash,
            min_media_tokens=state.config.min_media_tokens,
            renumbered=state.config.positions == "renumbered",
            drafted=drafted,
            past=past,
            shift=state.shift,
            row_arguments=override.row_arguments,
            fingerprint=_fingerprint(call.get("input_ids"), token_map, drafted),
        ),
    )
    if past and prefill.reason is not None:
        return None
    if prefill.reason is None and generate is not None and generate.assisted:
        _refuse_drafted_outputs(call)
    if prefill.reason is None and flash:
        _check_windows(past + length, parts, override)
    below = prefill.observation.deepest
    if prefill.reason is None and below:
        windows = [override.window(parts.head.config, layer) for layer in range(below)]
        modules = parts.attentions[:below]
        refuse_other_attention(base_attention(parts), modules, windows, past + length)
    if past:
        _hide_padding(state, call.get(MASK), past + length)
    _remember(state, prefill, call)
    return prefill


def _fingerprint(ids: Any, token_map: TokenMap, drafted: int) -> Tensor | None:
    """A number for each prompt, drafts left out; None where it came as embeddings."""
    length = token_map.length - drafted
    if not isinstance(ids, Tensor) or ids.shape[:2] != (token_map.rows, token_map.length):
        return None
    return fingerprints(ids[:, :length], token_map.valid[:, :length].to(ids.device))


def _hide_padding(state: State, mask: Any, length: int) -> None:
    """Rows of earlier turns that this turn's attention_mask hides are padding from now on."""
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == length:
        real = mask[:, : state.length] != 0
        if not bool(real.all()):
            state.hide(real)


def _remember(state: State, prefill: Prefill, call: dict[str, Any]) -> None:
    """Note what the conversation's positions are, as far as hooks were asked."""
    turn = prefill.token_map.first(prefill.token_map.length - prefill.setting.drafted)
    known = state.token_map
    if known is not None:
        turn = known.extend(prefill.setting.past - known.length).followed_by(turn)
    state.token_map, state.joined = turn, None
    state.reason = prefill.reason
    if state.given is None and call.get("input_ids") is None:
        state.reason = "the prompt came as embeddings: pass a TokenMap to FastAVCache"


def base_attention(parts: Parts) -> str:
    """Name of the attention implementation the user chose for the decoder."""
    config: Any = parts.text_model.config
    return implementation(config)


def _check_windows(length: int, parts: Parts, override: ModelOverride) -> None:
    config = parts.head.config
    windows = [override.window(config, index) for index in range(len(parts.layers))]
    narrow = min((window for window in windows if window), default=length)
    if length > narrow:
        raise UnsupportedError(
            f"The prompt has {length} positions and this model a sliding window of {narrow}: "
            "flash attention counts its window in rows, which a cut moves. Use "
            "attn_implementation='sdpa'."
        )


def _token_map(
    state: State,
    call: dict[str, Any],
    shape: tuple[int, int, int, int],
    parts: Parts,
    override: ModelOverride,
) -> TokenMap:
    """The caller's map of the rows brought, or the override's; drafted rows are text.

    `shape` is rows, positions, drafted positions, and rows per prompt.
    """
    rows, length, drafted, expansion = shape
    mask = call.get("attention_mask")
    mask = mask[:, -length:] if isinstance(mask, Tensor) and mask.dim() == 2 else None
    past, given = state.length, state.given
    if past and given is not None:
        # A map that ends before this turn is still the one of an earlier prompt.
        given = given.last(given.length - past) if given.length > past else None
    if given is not None:
        _check_rows(given.rows, rows, expansion)
        given = given.fit(rows, length, drafted)
        _check_padding(given, mask)
        return given
    input_ids = call.get("input_ids")
    if input_ids is None:
        # Nothing says where the media are, so nothing is cut.
        input_ids = torch.full((rows, length), -1, dtype=torch.int64)
    found = override.token_map(parts.head.config, input_ids, mask, call)
    return found.first(length - drafted).extend(drafted)


def _check_rows(given: int, rows: int, expansion: int) -> None:
    if rows not in (given, given * expansion):
        raise TokenMapError(
            f"The TokenMap has {given} rows and the batch {rows // expansion} prompts. Give one "
            "row per prompt, with TokenMap.batch([...])."
        )


def _check_padding(given: TokenMap, mask: Tensor | None) -> None:
    real = torch.ones_like(given.valid) if mask is None else mask.to(given.valid.device) != 0
    if real.shape != given.valid.shape:
        return
    wrong = (real != given.valid).any(dim=1)
    if bool(wrong.any()):
        raise TokenMapError(
            f"In batch row {int(wrong.long().argmax())} the TokenMap's padding differs from "
            "attention_mask's. Build it with TokenMap.batch(maps, padding_side='left')."
        )


def _refuse_drafted_outputs(named: dict[str, Any]) -> None:
    """Raise if assisted decoding is to return, or to draft from, what each layer made.

    transformers tells prompt rows from drafted ones by the prompt's length.

    Raises:
        UnsupportedError: with the outputs asked for.
    """
    wanted = [name for name in ("output_hidden_states", "output_attentions") if named.get(name)]
    if wanted:
        raise UnsupportedError(
            f"{' and '.join(wanted)} under assisted decoding would mix prompt rows with drafts: "
            "they are sliced by the prompt's length, which pruned layers do not have. Leave them "
            "unset, or decode without drafts (drafts made from hidden states need them)."
        )


def shift_positions(state: State, named: dict[str, Any], past: int, source: Tensor) -> None:
    """Continue renumbered positions where the survivors of the prompt end."""
    if state.shift is None:
        return
    positions = named.get(POSITIONS)
    if positions is None:
        positions = torch.arange(past, past + source.shape[1], device=source.device)[None]
    named[POSITIONS] = positions - state.shift.to(positions.device)[:, None]


def cut_deepstack(named: dict[str, Any], kept: Tensor, prefill: Prefill) -> None:
    """Shorten what the text model's loop adds by row, as the entrance cut will shorten the rows."""
    visual = named.get(DEEPSTACK_PLACES)
    if visual is None:
        return
    kept = kept.to(visual.device)
    rows, valid = prefill.alive.rows, prefill.alive.valid
    assert rows is not None
    survivors = kept[visual]
    masks = visual.gather(1, rows.to(visual.device))
    named[DEEPSTACK_PLACES] = masks if valid is None else masks & valid.to(visual.device)
    embeds = named.get(DEEPSTACK_FEATURES)
    if embeds is not None:
        named[DEEPSTACK_FEATURES] = [item[survivors.to(item.device)] for item in embeds]
