"""What is refused about a prompt, before anything is made of it."""

from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import StateError, TokenMapError, UnsupportedError
from fastav_plugin.layers.causality import refuse_other_attention
from fastav_plugin.pruning.bound_model import BoundModel
from fastav_plugin.pruning.observer import rollout_places
from fastav_plugin.pruning.prompt import GenerateContext, Prompt
from fastav_plugin.pruning.request import Request
from fastav_plugin.tokens import TokenMap


def check_context(context: GenerateContext, call: dict[str, Any]) -> None:
    """Refuse calls that give a model something else than whole prompts, once."""
    generate = context.generate
    if generate.prefill_chunk_size is not None:
        raise UnsupportedError(
            f"prefill_chunk_size={generate.prefill_chunk_size}: a prompt that comes in chunks "
            "cannot be pruned, because a cut needs all of it. Leave prefill_chunk_size unset."
        )
    if not context.direct and not call.get("use_cache", True):
        raise UnsupportedError(
            f"use_cache={call['use_cache']} makes generate() pass the whole prompt at every step, "
            "which a FastAVCache would append. Leave it out."
        )
    if context.past and generate.assisted and not context.only_drafts:
        raise UnsupportedError(
            "Drafts in a later turn: transformers passes the conversation again, with the tokens "
            "that the cache holds. Decode later turns without drafts, or start with a new cache."
        )


def refuse_other_prompt(request: Request, ids: Tensor, width: int) -> None:
    """Refuse a generate() whose prompt does not continue what a cache holds.

    Args:
        request: of the cache.
        ids: int64 [prompts, T], as generate() got them.
        width: of its attention mask. Where that is wider, the ids are of the new turn alone, and
            nothing says what came before.
    """
    seen, length = request.seen_tokens, ids.shape[1]
    if not request.prefilled or width > length:
        return
    if length <= seen:
        reason = f"it has seen {seen} tokens, and input_ids has {length}"
    elif not request.facts.may_begin(ids):
        reason = "input_ids begins with other tokens than it was filled with"
    else:
        return
    raise StateError(
        f"This FastAVCache holds another prompt: {reason}. Make a new FastAVCache(cfg) for each "
        "prompt; a later turn of a conversation takes all ids so far."
    )


def check_given_map(given: TokenMap, context: GenerateContext) -> None:
    """Refuse a caller's map of another batch size than the call's."""
    copies = context.generate.expansion
    if context.batch not in (given.rows, given.rows * copies):
        prompts = context.batch // copies
        raise TokenMapError(
            f"The TokenMap's batch size is {given.rows}, and there are {prompts} prompts. Give one "
            "row per prompt, with TokenMap.batch([...])."
        )


def check_given_padding(given: TokenMap, mask: Tensor | None) -> None:
    """Refuse a caller's map, [B, T], with other padding than the attention mask's."""
    real = torch.ones_like(given.valid) if mask is None else mask.to(given.valid.device) != 0
    if real.shape != given.valid.shape:
        return
    wrong = (real != given.valid).any(dim=1)
    if bool(wrong.any()):
        raise TokenMapError(
            f"In batch row {int(wrong.long().argmax())} the TokenMap's padding differs from "
            "attention_mask's. Build it with TokenMap.batch(maps, padding_side='left')."
        )


def check_prompt(
    prompt: Prompt, context: GenerateContext, call: dict[str, Any], model: BoundModel
) -> None:
    """Refuse a prompt whose cuts would change what the model or generate() makes of the rest."""
    if prompt.reason is not None:
        return
    prompt.check_padding()
    if context.generate.assisted:
        _refuse_drafted_outputs(call)
    length = context.past + context.length
    windows = model.windows()
    narrow = min((window for window in windows if window), default=length)
    if model.decoder.flash and length > narrow:
        raise UnsupportedError(
            f"The prompt has {length} positions and this model a sliding window of {narrow}: "
            "flash attention counts its window in tokens held, which a cut changes. Use "
            "attn_implementation='sdpa'."
        )
    deepest = max(rollout_places(prompt.hooks), default=0)
    if deepest:
        below = model.attentions[:deepest], windows[:deepest]
        refuse_other_attention(model.attention_implementation, *below, length)


def _refuse_drafted_outputs(call: dict[str, Any]) -> None:
    """Transformers tells prompt tokens from drafted ones by the prompt's length."""
    wanted = [name for name in ("output_hidden_states", "output_attentions") if call.get(name)]
    if wanted:
        raise UnsupportedError(
            f"{' and '.join(wanted)} under assisted decoding would mix prompt tokens with drafts: "
            "they are sliced by the prompt's length, which pruned layers do not have. Leave them "
            "unset, or decode without drafts (drafts made from hidden states need them)."
        )
