"""Every generate() of one model gets a FastAVCache of its own, whoever calls it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from fastav_plugin.analysis.measured_run import Run, run_once
from fastav_plugin.attach import attach, detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError, StateError, UnsupportedError
from fastav_plugin.upstream.arguments import cache_argument, readable_cache_names

#: Arguments of generate() that say how tokens are chosen, beside the fields of GenerationConfig.
CHOOSING = ("generation_config", "logits_processor", "stopping_criteria", "streamer")


@dataclass(frozen=True)
class PromptCost:
    """What one prompt took.

    Attributes:
        tokens: of the prompt.
        kept: of them in the last layer.
        flops_ratio: prefill, as a fraction of dense.
        reason: why nothing was cut, or None.
    """

    tokens: int
    kept: int
    flops_ratio: float
    reason: str | None


class PrunedGenerate:
    """Takes the place of a model's generate() until `remove`.

    A refusal stays: programs that evaluate go on after an error in one prompt, and would make
    empty answers of all others.

    Args:
        model: a transformers model, or one wrapped by PEFT.
        config: what to prune.

    Attributes:
        costs: of the prompts so far.
        refusal: why a prompt was not pruned; every later call raises it again.

    Raises:
        UnsupportedError: the model cannot be pruned.
        ConfigError: the config does not suit it.
    """

    def __init__(self, model: nn.Module, config: FastAVConfig) -> None:
        self.config = config
        self.costs: list[PromptCost] = []
        self.refusal: FastAVError | None = None
        self._forced: torch.Tensor | None = None
        self._run: Run | None = None
        head: Any = unwrap(attach(model, config))
        self._head = head
        self._own: Callable[..., Any] = head.generate
        # detach() restores what the model had here before attach().
        head.__dict__["generate"] = self._generate

    def remove(self) -> None:
        """Detach the model; safe to call twice."""
        detach(self._head)

    def score(self, ids: Sequence[int], ask: Callable[[], Any]) -> tuple[float, bool]:
        """Score an answer that is given, on the cache that generate() would decode it on.

        Its tokens are decoded one by one in place of the model's own. So no token of the answer
        takes part in choosing what is pruned.

        Args:
            ids: tokens of the answer, at least one.
            ask: calls generate() with one prompt.

        Returns:
            The mean negative log-likelihood of a token, and whether each is the likeliest.

        Raises:
            FastAVError: the prompt cannot be pruned, or generate() was not called with it.
        """
        self._forced, self._run = torch.tensor(ids), None
        try:
            ask()
        finally:
            forced, self._forced = self._forced, None
        self.refuse()
        run = self._run
        if run is None or len(run.logits) != len(forced):
            raise StateError(
                "An answer cannot be scored: generate() was not called with its prompt, or the "
                "answer ends the text before its last token."
            )
        logits = torch.cat(run.logits).float().cpu()  # [N, vocabulary]
        losses = torch.nn.functional.cross_entropy(logits, forced, reduction="none")
        return losses.mean().item(), bool((logits.argmax(-1) == forced).all())

    def refuse(self) -> None:
        """Raise the refusal of an earlier call, if there is one."""
        if self.refusal is not None:
            raise self.refusal

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.refuse()
        try:
            return self._pruned(args, kwargs)
        except FastAVError as error:
            self.refusal = error
            raise

    def _pruned(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [name for name in readable_cache_names() if kwargs.get(name) is not None]
        if given and not isinstance(kwargs[given[0]], FastAVCache):
            raise UnsupportedError(
                f"generate() is given a cache of the caller's (`{given[0]}`), so nothing would be "
                "pruned."
            )
        if given:
            return self._own(*args, **kwargs)
        cache = FastAVCache(self.config)
        if self._forced is None:
            output = self._own(*args, **kwargs, **cache_argument(cache))
        else:
            output = self._decode(cache, args, kwargs)
        self._note(cache)
        return output

    def _decode(
        self, cache: FastAVCache, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> torch.Tensor:
        """Decode the forced tokens after the prompt of a call; returns them with the prompt."""
        settings: Any = GenerationConfig
        chosen = {*settings().to_dict(), *CHOOSING}
        inputs = {name: value for name, value in kwargs.items() if name not in chosen}
        ids = inputs.pop("inputs", args[0] if args else None)
        if ids is not None:
            inputs["input_ids"] = ids
        ids = inputs.get("input_ids")
        if ids is None or ids.shape[0] != 1:
            raise ConfigError("An answer is scored after the `input_ids` of one prompt.")
        self._run = run_once(self._head, inputs, cache=cache, forced=self._forced)
        return torch.cat([ids, self._run.new_ids], dim=1)

    def _note(self, cache: FastAVCache) -> None:
        rows = cache.batch_size
        for report in (cache.report(row) for row in range(rows)):
            counts = report.tokens_per_layer
            self.costs.append(
                PromptCost(
                    tokens=int(report.token_map.valid.sum()),
                    kept=counts[-1],
                    flops_ratio=report.flops_ratio,
                    reason=report.reason,
                )
            )
