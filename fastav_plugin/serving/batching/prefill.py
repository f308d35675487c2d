"""The beginning of a generate(): prompt, cache, processors and criteria, and the first logits.

generate() itself prepares a request, whatever its family needs for that, and hands over to a loop
of the caller's (`custom_generate`). Here the loop ends after the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.cache import FastAVCache
from fastav_plugin.serving.batching.request import Request, Row
from fastav_plugin.upstream.arguments import cache_argument


def prefill(head: nn.Module, request: Request) -> tuple[Row, Tensor, FastAVCache]:
    """Prefill one request.

    Args:
        head: the module that generate() calls, bound by `attach`.
        request: for which `is_batched` holds.

    Returns:
        The row, the logits of its prompt's last token, float [1, vocabulary], and its cache.

    Raises:
        Exception: whatever generate() refuses, or the streamer raises because its client has gone.
    """
    cache = FastAVCache(request.config, _search=False)
    begun: list[tuple[Row, Tensor]] = []

    def begin(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: Any = None,
        tokenizer: Any = None,
        **model_kwargs: Any,
    ) -> Tensor:
        inputs = model.prepare_inputs_for_generation(
            input_ids, is_first_iteration=True, **model_kwargs
        )
        logits = model(**inputs, return_dict=True).logits[:, -1].clone()
        row = Row(
            request,
            input_ids.to(logits.device),
            logits_processor,
            stopping_criteria,
            bool(generation_config.do_sample),
        )
        begun.append((row, logits))
        return input_ids

    with torch.no_grad():
        # Not the attached one of the instance: it would report that nothing was pruned.
        generate: Any = getattr(type(head), "generate")  # noqa: B009
        generate(
            head,
            **request.inputs,
            **cache_argument(cache),
            generation_config=request.generation_config,
            streamer=request.streamer,
            tokenizer=request.tokenizer,
            custom_generate=begin,
        )
    ((row, logits),) = begun
    row.report = cache.report()
    # Pixels and samples are of no use to the answer, which may be long.
    request.inputs = {}
    return row, logits, cache
