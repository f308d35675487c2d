"""A budget of FLOPs: which ratios make a prompt's prefill cost a given share of dense.

Fields of the config are changed in the order of `candidates.TUNABLE`. Starting from the config's
own values, a smaller budget first takes each field in turn to its soft bound, then each to its
last value; a larger one loosens each field in turn until it drops nothing (`global_layer` is never
raised). Every step on this path drops at least as much as the one before, so the step that meets
the budget is found by bisection. The counts are exact, except for a rule of positions or frames
after DivPrune: how many tokens it keeps depends on DivPrune's picks, which are assumed to lie at
even distances.
"""

from __future__ import annotations

import functools
import logging
import reprlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from torch import Tensor

from fastav_plugin.config import FastAVConfig, check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import rules_by_modality
from fastav_plugin.hooks.divprune import DivPrune
from fastav_plugin.hooks.plannable import PlannableHook, counts_vary
from fastav_plugin.hooks.registry import LayerHookList, method_hooks
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.planning.candidates import TUNABLE, Candidates, candidates
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens
from fastav_plugin.tokens import Modality, TokenMap

logger = logging.getLogger(__name__)

#: Within this share of dense a budget counts as met, and no second field is changed for it.
CLOSE = 0.001


@dataclass(frozen=True)
class Budget:
    """What `FastAVConfig.for_model` was asked for.

    Attributes:
        target: prefill FLOPs as a share of dense, in (0, 1].
        prompt: a TokenMap, token counts by modality, or what generate() would get.
        fixed: fields that the caller gave, which are not changed.
    """

    target: float
    prompt: Any
    fixed: frozenset[str]


def fit_budget(
    config: FastAVConfig, budget: Budget, override: ModelOverride, model_config: Any
) -> FastAVConfig:
    """The config whose theoretical FLOPs are at most, and as near as possible to, the target.

    Args:
        config: the method and the model family's defaults.
        budget: what is wanted.
        override: knowledge about the model's family.
        model_config: the model's configuration.

    Raises:
        ConfigError: no setting of the method reaches the target; names the lowest that does.
        TokenMapError: a rule of frames for a prompt whose frames are unknown.
    """
    target = budget.target
    check_ratio("target_flops", target, "(0, 1]")
    model_config = override.head_config(model_config)
    tokens = read_prompt(budget.prompt, override, model_config)
    layers = int(override.text_config(model_config).num_hidden_layers)
    cost = override.cost(model_config)
    dense = [cost.macs([count] * layers) for count in tokens.valid.sum(dim=1).tolist()]

    def share(candidate: FastAVConfig) -> float:
        counts, _ = plan_tokens(candidate, tokens, layers)
        ratios = [cost.macs(row) / max(1, full) for row, full in zip(counts, dense, strict=True)]
        return sum(ratios) / len(ratios)

    depth = range(max(1, override.deepstack_layers(model_config)), layers)
    names = _tunable(config, budget.fixed, tokens)
    path = _Path(config, [candidates(name, config, tokens, depth) for name in names], share)
    found = path.nearest(target)
    if found is None:
        _, reason = plan_tokens(config, tokens, layers)
        raise ConfigError(_unreachable(config, budget, path, reason))
    chosen, reached = found
    settings = ", ".join(f"{name}={getattr(chosen, name)!r}" for name in names) or "nothing"
    sizes = ", ".join(
        f"{count / tokens.rows:g} {modality.name.lower()}"
        for modality in list(Modality)[1:]
        if (count := int(tokens.mask(modality).sum()))
    )
    explanation = (
        f"{settings} for target_flops={target:g}: the prefill of a prompt of {sizes} tokens takes "
        f"{_precision(chosen)}{100 * reached:.1f} % of the dense FLOPs."
    )
    logger.info("fastav: method %r chose %s", config.method, explanation)
    return chosen.explained(f"Chosen: {explanation}")


def _precision(config: FastAVConfig) -> str:
    """How well a dry run knows the counts."""
    hooks = method_hooks(config)
    if counts_vary(hooks):
        return "at most "
    # Which tokens such a hook picks, only real features say.
    picks = any(
        isinstance(hook, PlannableHook) and type(hook).dry_run is not PlannableHook.dry_run
        for hook in hooks
    )
    if not picks or "global_rule" not in _fields(hooks) or config.global_rule is None:
        return ""
    rules = rules_by_modality(config.global_rule).values()
    return "about " if any(rule.counts in ("below", "frames") for rule in rules) else ""


def _fields(hooks: LayerHookList) -> set[str]:
    """The fields of FastAVConfig that a budget may change for some hook."""
    return {name for hook in hooks if isinstance(hook, PlannableHook) for name in hook.tunable}


def read_prompt(prompt: Any, override: ModelOverride, model_config: Any) -> TokenMap:
    """The TokenMap of a prompt that was described in one of several ways.

    Args:
        prompt: a TokenMap; counts such as `{"text": 50, "video": 676, "frames": 4}`, laid out
            system prompt, image, video, audio, question; the inputs of generate(), or their
            `input_ids` [B, T] alone.
        override: finds the media in `input_ids`.
        model_config: the model's configuration.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(prompt, TokenMap):
        return prompt
    if isinstance(prompt, Tensor):
        prompt = {"input_ids": prompt}
    if isinstance(prompt, Mapping) and isinstance(prompt.get("input_ids"), Tensor):
        inputs = dict(prompt)
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        return override.token_map(model_config, ids, mask, inputs)
    known = [field.name for field in fields(PromptSize)]
    if isinstance(prompt, Mapping) and prompt and set(prompt) <= set(known):
        counts = {**dict.fromkeys(known, 0), **prompt}
        if all(_is_count(count) for count in counts.values()):
            return PromptSize(**{name: int(count) for name, count in counts.items()}).token_map()
    raise ConfigError(
        "`target_flops` needs `prompt`: a TokenMap, token counts such as {'text': 50, 'video': 676}"
        f" (known: {', '.join(known)}), or the inputs of generate(), got {reprlib.repr(prompt)}."
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _tunable(config: FastAVConfig, fixed: frozenset[str], tokens: TokenMap) -> list[str]:
    """The method's fields that are free and act on this prompt, in order."""
    if config.hooks is not None:
        raise ConfigError(
            "`target_flops` chooses the ratios of a method, and `hooks` have ratios of their own. "
            "Give one or the other."
        )
    free = _fields(method_hooks(config)) - fixed
    return [
        name
        for name, modalities in TUNABLE.items()
        if name in free and bool(tokens.mask(*modalities).any())
    ]


def _unreachable(config: FastAVConfig, budget: Budget, path: _Path, reason: str | None) -> str:
    lowest = path.config_at(path.last)
    remedies = ["raise the target"]
    if reason is not None:
        why = f"because {reason}"
        remedies += ["lower `min_media_tokens`"] if "min_media_tokens" in reason else []
    else:
        settings = ", ".join(f"{c.field}={getattr(lowest, c.field)!r}" for c in path.candidates)
        why = f"with {settings}" if settings else "for no setting of this method is left to choose"
        fixed = budget.fixed & {field.name for field in fields(config)}
        remedies += ["give fewer settings yourself"] if fixed else []
        if not any(isinstance(hook, DivPrune) for hook in method_hooks(config)):
            remedies.append("add DivPrune (method='fastav+divprune')")
    remedy = " or ".join(remedies)
    return (
        f"`target_flops`={budget.target:g} cannot be reached by method {config.method!r} on this "
        f"prompt: the lowest is {path.share(path.last):.4f}, {why}. "
        f"{remedy[0].upper()}{remedy[1:]}."
    )


class _Path:
    """The path from the loosest to the strictest setting of all fields, and bisection on it.

    A setting is a tuple of indices, one into the candidates of each field.

    Args:
        config: holds the defaults.
        candidates: of each field, in the order in which they are changed.
        share: FLOPs of a config as a share of dense.

    Attributes:
        last: the strictest setting.
    """

    def __init__(
        self,
        config: FastAVConfig,
        candidates: list[Candidates],
        share: Callable[[FastAVConfig], float],
    ) -> None:
        self.candidates = candidates
        self.last = tuple(each.last for each in candidates)
        self.share = functools.cache(lambda setting: share(self.config_at(setting)))
        self._config = config
        numbered = list(enumerate(candidates))
        #: (field, steps): on the way down each leg moves one field by so many values.
        self._legs = [
            *((number, each.default) for number, each in reversed(numbered)),
            *((number, each.soft_bound - each.default) for number, each in numbered),
            *((number, each.last - each.soft_bound) for number, each in numbered),
        ]

    def config_at(self, setting: tuple[int, ...]) -> FastAVConfig:
        """The config of a setting."""
        chosen = zip(self.candidates, setting, strict=True)
        return self._config.replace(**{each.field: each.values[index] for each, index in chosen})

    def nearest(self, target: float) -> tuple[FastAVConfig, float] | None:
        """The config nearest to the target that does not exceed it, and its share; or None."""
        if self.share(self.last) > target:
            return None
        steps = range(sum(steps for _, steps in self._legs))
        step = bisect_left(steps, True, key=lambda step: self.share(self._at(step)) <= target)
        best = self._at(step)
        if self.share(best) < target - CLOSE:
            # The field that was changed last has coarse steps: let a finer one take up the rest.
            best = max([best, *self._finer(step, target)], key=self.share)
        return self.config_at(best), self.share(best)

    def _finer(self, step: int, target: float) -> Iterator[tuple[int, ...]]:
        """Settings beside a step of the path, one other field changed, that meet the target."""

        def meets(setting: tuple[int, ...]) -> bool:
            return self.share(setting) <= target

        here, before = self._at(step), self._at(max(0, step - 1))
        for start in (here, before):
            for number, each in enumerate(self.candidates):
                if start is before and here[number] != before[number]:
                    continue  # changing this field is the path itself
                line = [(*start[:number], i, *start[number + 1 :]) for i in range(each.last + 1)]
                if self.share(line[-1]) <= target:
                    yield line[bisect_left(line[:-1], True, key=meets)]

    def _at(self, step: int) -> tuple[int, ...]:
        """The setting after so many steps of the path."""
        setting = [0] * len(self.candidates)
        for number, steps in self._legs:
            taken = min(step, steps)
            setting[number] += taken
            step -= taken
        return tuple(setting)
