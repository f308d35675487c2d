"""Methods as their authors' programs run them, to compare their time with ours.

Only the cost differs: the same tokens are kept, so the rest of the prefill is the same.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import DynamicCache
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.functional.top_k import counts_of
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.divprune import DivPrune
from fastav_plugin.hooks.registry import LayerHookList, method_hooks
from fastav_plugin.upstream.arguments import cache_argument
from fastav_plugin.upstream.attention import rename

#: Methods that have a published version here.
PEERS = ("fastv", "divprune")

#: What a published version is called after the method's name.
AS_PUBLISHED = "as published"

_LAYER_TWICE = 1  # FastV reads the attention of layer K - 1 with K = 2


def published_selection(features: Tensor, count: int) -> Tensor:
    """Max-min diversity as DivPrune's paper states it: int64 [count] of float32 [M, d].

    At each step the distances of all candidates to every pick so far are gathered: O(count^2 M).
    """
    units = features / features.norm(dim=1, keepdim=True)
    distances = 1 - units @ units.T
    picks = torch.empty(count, dtype=torch.int64)
    for step in range(count):
        if step == 0:
            # The nearest candidate of all is the candidate itself.
            height = distances.topk(2, dim=0, largest=False).values[1]
        else:
            height = distances.index_select(0, picks[:step]).amin(dim=0)
        picks[step] = height.argmax()
    return picks


class PublishedDivPrune(DivPrune):
    """DivPrune with its loop as published: step i gathers i rows of the distance matrix."""

    @override
    def __call__(self, view: LayerView) -> Tensor:
        keep = torch.ones_like(view.alive)
        for kind, ratio in self.groups(view):
            for sample, mask in enumerate(kind):
                candidates = mask.nonzero().squeeze(1)
                count = int(counts_of(mask.sum(), ratio))
                if count >= len(candidates):
                    continue
                features = view.hidden_states[sample, candidates]
                keep[sample, candidates] = False
                keep[sample, candidates[published_selection(features, count)]] = True
        return keep


def published(config: FastAVConfig) -> FastAVConfig:
    """The config of one of `PEERS` with its hooks in their published version."""
    hooks = LayerHookList(
        PublishedDivPrune(hook.visual_keep_ratio, hook.audio_keep_ratio)
        if isinstance(hook, DivPrune)
        else hook
        for hook in method_hooks(config)
    )
    return config.replace(hooks=hooks)


def run_layer_twice(model: nn.Module) -> RemovableHandle:
    """Let each prefill run layer 1 once more, with eager attention, as FastV's program does.

    It needs the attention matrix of all heads, which no fused kernel gives; the second pass,
    whose keys and values FastV appends as well, is thrown away here.
    """
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    layer = decoder.layers[_LAYER_TWICE]

    def again(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        tokens = hidden.shape[1]
        if tokens == 1:
            return
        mask = hidden.new_full((tokens, tokens), torch.finfo(hidden.dtype).min).triu(1)
        fused = module.self_attn.config
        module.self_attn.config = copy.copy(fused)
        rename(module.self_attn.config, "eager")
        try:
            changed = {"attention_mask": mask[None, None], **cache_argument(DynamicCache())}
            module.forward(*args, **{**kwargs, **changed})
        finally:
            module.self_attn.config = fused

    handle: RemovableHandle = layer.register_forward_pre_hook(again, with_kwargs=True)
    return handle
