"""Prefill of one request, and decoding of a batch of requests, with a FastAVCache."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError, StateError, in_short
from fastav_plugin.model_overrides.tgi.prompts import Prompt, PromptError
from fastav_plugin.serving.batching.decoding import Decoder
from fastav_plugin.upstream.arguments import cache_argument

logger = logging.getLogger(__name__)

#: Errors after which a device cannot be used, or has no memory for any request.
_FATAL = (
    torch.OutOfMemoryError,
    # Before torch 2.8, which TGI's image has, a RuntimeError with one of the texts.
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
    getattr(torch.distributed, "DistError", torch.OutOfMemoryError),
)
#: Of a device that is lost, or of another rank: gloo's errors have no type of their own.
_FATAL_TEXTS = ("cuda error", "nccl", "gloo", "connection closed")


class Generation(Decoder):
    """One model, bound by `attach`, and how its requests are pruned.

    Args:
        head: the module that generate() calls.
        config: what to prune.
    """

    def __init__(self, head: nn.Module, config: FastAVConfig) -> None:
        super().__init__(head)
        self.config = config
        weights = next(head.parameters())
        self._device, self._dtype = weights.device, weights.dtype
        parameters = inspect.signature(type(head).forward).parameters
        # Logits of the last token alone, where the forward has an argument for it.
        self._keep = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def prefill(self, prompts: Sequence[Prompt]) -> tuple[Tensor, FastAVCache]:
        """Prefill new requests, one by one, and join their caches.

        Returns:
            float [B, 1, vocabulary], the logits of each prompt's last token, and their cache.

        Raises:
            PromptError: a prompt whose media the model cannot take.
        """
        logits, caches = [], []
        for prompt in prompts:
            last, cache = self._prefill(prompt)
            logits.append(last)
            caches.append(cache)
        joined = caches[0] if len(caches) == 1 else FastAVCache.stack(caches)
        return torch.cat(logits), joined

    def _prefill(self, prompt: Prompt) -> tuple[Tensor, FastAVCache]:
        cache = FastAVCache(self.config, _search=False)
        inputs = {name: self._moved(value) for name, value in prompt.inputs.items()}
        try:
            with torch.no_grad():
                output = self.head(**inputs, **cache_argument(cache), use_cache=True, **self._keep)
        except (*_FATAL, StateError):
            raise
        except FastAVError as error:
            raise PromptError(str(error)) from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            # Media of a form the processor let through; a RuntimeError would end the shard.
            first = in_short(error)
            if any(text in first.lower() for text in _FATAL_TEXTS):
                raise
            raise PromptError(f"The model cannot take the media of this prompt: {first}") from error
        self._log(cache)
        return output.logits[:, -1:].clone(), cache

    def _moved(self, value: Any) -> Any:
        """Tensors to the model's device, and features to its dtype; times stay exact."""
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point() and value.dim() > 1:
            return value.to(self._device, self._dtype)
        return value.to(self._device)

    def _log(self, cache: FastAVCache) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        report = cache.report()
        counts = report.tokens_per_layer
        logger.info(
            "prefill: %d tokens, %d in the last layer, FLOPs %.3f of dense%s",
            counts[0] if report.reason else report.token_map.length,
            counts[-1],
            report.flops_ratio,
            "" if report.reason is None else f" ({report.reason})",
        )
