"""How many tokens each layer would see: a dry run of the engine, without a model."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.flops import LayerCost
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.plannable import PlannableHook
from fastav_plugin.hooks.registry import LayerHookList, method_hooks
from fastav_plugin.layers.attention import OBSERVER
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.bound_model import Decoder
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.prompt import Prompt, Reason, hooks_by_place
from fastav_plugin.pruning.rollout_view import Rollout
from fastav_plugin.tokens import Modality, TokenMap

#: Text tokens that go before the media, as in the usual chat templates.
_SYSTEM_PROMPT = 14


@dataclass(frozen=True)
class PromptSize:
    """How many tokens of each modality a prompt has.

    Attributes:
        text, image, video, audio: token counts.
        frames: video frames that `video` is split into; 0 where they are unknown.
    """

    text: int = 50
    image: int = 0
    video: int = 676
    audio: int = 1496
    frames: int = 0

    @classmethod
    def of_kinds(cls, kinds: Collection[Modality]) -> "PromptSize":
        """A typical prompt of a model that takes media of these kinds; none are all.

        676 video and 1,496 audio tokens as in the FastAV paper; where a model takes no video,
        the 576 tokens of a picture of LLaVA-1.5.
        """
        if not kinds:
            return cls()
        video, audio = Modality.VIDEO in kinds, Modality.AUDIO in kinds
        image = Modality.IMAGE in kinds and not video
        return cls(image=576 * image, video=cls.video * video, audio=cls.audio * audio)

    def token_map(self) -> TokenMap:
        """A prompt of this size: system prompt, image, video, audio, question.

        Raises:
            ConfigError: no token at all, or frames that do not divide the video.
        """
        if self.frames and self.video % self.frames:
            raise ConfigError(
                f"{self.video} video tokens cannot be split into {self.frames} equal frames."
            )
        start = min(_SYSTEM_PROMPT, self.text // 2)
        spans: dict[str, list[tuple[int, int]]] = {}
        for name in ("image", "video", "audio"):
            count = getattr(self, name)
            spans[name] = [(start, start + count)] if count else []
            start += count
        length = self.text + self.image + self.video + self.audio
        if length == 0:
            raise ConfigError("A prompt needs at least one token, got none.")
        each = self.video // self.frames if self.frames else None
        return TokenMap.from_spans(length, **spans, tokens_per_frame=each)


@dataclass(frozen=True)
class PlannedPrefill:
    """What each layer would see of each prompt, and what choosing it would cost.

    Attributes:
        counts: tokens [B][L], lowest layer first.
        overhead: multiply-accumulates [B] of scores, rollout and selection; 0 where no cost of a
            layer was given.
        reason: why nothing is cut, or None.
    """

    counts: list[list[int]]
    overhead: list[int]
    reason: Reason | None

    def flops_ratio(self, cost: LayerCost, lengths: Sequence[int]) -> float:
        """As in a report of all batch rows, with the tokens of each prompt."""
        rows = zip(self.counts, lengths, self.overhead, strict=True)
        ratios = [cost.ratios(*row)[0] for row in rows]
        return sum(ratios) / len(ratios)


def plan_tokens(
    config: FastAVConfig, tokens: TokenMap, layers: int
) -> tuple[list[list[int]], Reason | None]:
    """The counts [B][L] of `plan_prefill`, and why nothing is cut, or None."""
    plan = plan_prefill(config, tokens, layers)
    return plan.counts, plan.reason


def plan_prefill(
    config: FastAVConfig, tokens: TokenMap, layers: int, cost: LayerCost | None = None
) -> PlannedPrefill:
    """Tokens that each layer would see of each prompt.

    The real hooks make a dry run, on features and scores of no meaning: which tokens they keep is
    arbitrary, how many is exact, and so is what choosing them costs. The one exception is a rule
    of positions or frames after DivPrune, whose count depends on which tokens DivPrune picked:
    here they are taken to lie evenly. Of hooks whose counts vary with the prompt
    (`PlannableHook.counts_vary`) it is the most they would keep.
    """
    hooks = LayerHookList(
        _DryRun(hook) if isinstance(hook, PlannableHook) else hook for hook in method_hooks(config)
    )
    prompt = Prompt(tokens.to("cpu"), config, hooks_by_place(hooks, layers))
    prompt.check_padding()
    prefill = Prefill(prompt, Decoder(layers, cost=cost))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn((tokens.rows, tokens.length, 8), generator=generator)
    counts: list[list[int]] = []
    for layer in range(layers):
        arguments: dict[str, Any] = {}
        hidden = prefill.enter(layer, hidden, arguments, FastAVLayer())
        counts.append((prefill.survivors.held.positions >= 0).sum(dim=1).tolist())
        if OBSERVER in arguments:
            states = hidden[:, None]  # [B, 1, K, 8]: one head, queries and keys alike
            arguments[OBSERVER].observe(states, states, None, None, None)
    by_row = [list(row) for row in zip(*counts, strict=True)]
    return PlannedPrefill(by_row, prefill.account.macs.tolist(), prefill.reason)


class _DryRun(PlannableHook):
    """A hook that answers as another in a dry run."""

    def __init__(self, hook: PlannableHook) -> None:
        self._hook = hook
        self.needs_scores = hook.needs_scores
        self.needs_rollout = hook.needs_rollout
        self.may_empty = hook.may_empty

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return self._hook.layers(num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        if isinstance(view.rollout, Rollout):
            view = replace(view, rollout=view.rollout.counted())
        return self._hook.dry_run(view)

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        return self._hook.choice_macs(view, keep, width)
