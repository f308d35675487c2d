"""The masked-dense oracle: what pruning must equal, made without the engine's code.

The stock model runs densely through its own generate(). Before each decoder layer its attention
mask is replaced by one that also hides the tokens that the pruned run's layer did not hold. A
hidden token still computes something, which nobody sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.upstream.arguments import cache_of, takes_cache
from tests.support.cache_names import passing
from tests.support.prompts import SUPPRESSED

#: Prefill and four decode steps.
STEPS = 5


@dataclass(frozen=True)
class Run:
    """One generate() call.

    Attributes:
        logits: float32 [steps, B, vocabulary], raw, prefill first.
        tokens: int64 [B, steps], what was generated.
        output: the whole output of generate.
    """

    logits: Tensor
    tokens: Tensor
    output: Any


def _say(tokens: Tensor, prompt: int) -> Callable[[int, Tensor], list[int]]:
    """Lets generate() say given tokens only. (Janus drops a list of logits processors.)"""

    def allowed(row: int, sequence: Tensor) -> list[int]:
        return [int(tokens[row, len(sequence) - prompt])]

    return allowed


def run(
    model: Any,
    inputs: dict[str, Any],
    cache: Any = None,
    *,
    forced: Tensor | None = None,
    steps: int = STEPS,
    **options: Any,
) -> Run:
    """Generate greedily, or say the tokens `forced` (int64 [B, steps])."""
    options |= passing(cache)
    if forced is not None:
        options["prefix_allowed_tokens_fn"] = _say(forced, inputs["input_ids"].shape[1])
    else:
        options["suppress_tokens"] = SUPPRESSED
    output = model.generate(
        **inputs,
        **{"do_sample": False} | options,
        max_new_tokens=steps,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = output.sequences[:, inputs["input_ids"].shape[1] :]
    return Run(torch.stack(output.logits), tokens, output)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers that hold a KV cache; towers that have such layers are no decoder."""
    head: Any = model
    decoder = head.get_decoder() if hasattr(head, "get_decoder") else head
    for module in (decoder, *model.modules()):
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList) and hasattr(layers[0], "self_attn"):
            if takes_cache(layers[0]):
                return layers
    raise AssertionError("no decoder layers")


def held_rows(cache: Any, length: int) -> list[Tensor]:
    """Bool [B, length] per layer, True where the layer holds a prompt token.

    Also checks that what the cache says of itself is consistent.
    """
    held = []
    for layer in cache.layers:
        positions = layer.positions
        assert layer.keys.shape[2] == layer.values.shape[2] == positions.shape[1]
        real = torch.ones_like(positions, dtype=torch.bool) if layer.valid is None else layer.valid
        mask = torch.zeros((positions.shape[0], length), dtype=torch.bool)
        for row in range(positions.shape[0]):
            kept = positions[row][real[row]].tolist()
            assert kept == sorted(set(kept)), "positions must be ascending and unique"
            mask[row, [position for position in kept if position < length]] = True
            assert (positions[row][~real[row]] == -1).all()
        held.append(mask)
    return held


def masked_dense(
    model: Any, inputs: dict[str, Any], held: list[Tensor], forced: Tensor, **options: Any
) -> Run:
    """The stock model, with tokens hidden from each layer on; says the tokens `forced`.

    Args:
        model: a stock model.
        inputs: as the pruned run got them.
        held: bool [B, T] per layer.
        forced: int64 [B, steps].
    """
    with hidden(model, held):
        return run(model, inputs, forced=forced, steps=forced.shape[1], **options)


@contextmanager
def hidden(model: Any, held: list[Tensor], *, shortest: int = 0) -> Iterator[None]:
    """While inside, each layer of the model sees only the prompt tokens it holds.

    Sequences below `shortest` are another prompt's, such as the unconditional one of guidance.
    """
    handles = []
    try:
        for layer, mask in zip(decoder_layers(model), held, strict=True):
            handles.append(layer.register_forward_pre_hook(_hide(mask, shortest), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hide(held: Tensor, shortest: int) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        attention: Any = module.self_attn
        cache = cache_of(kwargs)
        if cache.get_seq_length(attention.layer_idx) + states.shape[1] < shortest:
            return None
        mask = _visible(
            kwargs["attention_mask"],
            held.repeat_interleave(states.shape[0] // held.shape[0], dim=0),
            states.shape[1],
            cache.get_seq_length(attention.layer_idx),
            *cache.get_mask_sizes(states.shape[1], attention.layer_idx),
        )
        if attention.config._attn_implementation == "eager":
            low = torch.finfo(states.dtype).min
            mask = torch.zeros(mask.shape, dtype=states.dtype).masked_fill(~mask, low)
        return args, kwargs | {"attention_mask": mask}

    return hook


def _visible(
    mask: Tensor | None, held: Tensor, queries: int, past: int, columns: int, offset: int
) -> Tensor:
    """Bool [B, 1, queries, columns]: the stock mask, less the tokens not held."""
    rows = torch.arange(past, past + queries)[:, None]
    places = torch.arange(offset, offset + columns)[None]
    if mask is None:
        seen = (places <= rows)[None, None]
    else:
        assert mask.dim() == 4 and mask.shape[-1] == columns
        seen = mask if mask.dtype == torch.bool else mask == 0
    held = held[:, : past + queries]  # a later turn's tokens are not there yet
    later = torch.ones((held.shape[0], past + queries - held.shape[1]), dtype=torch.bool)
    there = torch.cat([held, later], dim=1)[:, None, None, offset:]
    # A query that sees nothing would be NaN; held tokens see themselves anyway.
    return (seen & there) | (places == rows)


def dense_scores(model: Any, inputs: dict[str, Any], held: list[Tensor]) -> list[Tensor]:
    """Attention of the prompt's last query in each layer, mean over heads: float32 [B, T].

    Args:
        model: the eager model.
        inputs: the prompts.
        held: bool [B, T] per layer.
    """
    return [attention[:, -1].float() for attention in dense_attention(model, inputs, held)]


def dense_attention(model: Any, inputs: dict[str, Any], held: list[Tensor]) -> list[Tensor]:
    """Attention of each layer, mean over heads: float64 [B, T, T].

    Args:
        model: the eager model.
        inputs: the prompts.
        held: bool [B, T] per layer.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[1].double().mean(dim=1))

    layers = decoder_layers(model)
    handles = [layer.self_attn.register_forward_hook(keep) for layer in layers]  # type: ignore[union-attr]
    try:
        with hidden(model, held):
            run(model, inputs, steps=1)
    finally:
        for handle in handles:
            handle.remove()
    return found
