"""A budget of FLOPs: which ratios make a prompt's prefill cost a given share of dense.

The settings of a method that may give way ("knobs") have an order. Seen from the config's own
values, a smaller budget first takes each knob in turn to the end of its sensible range, then
each to its last value; a larger one first loosens each knob in turn until it drops nothing. In
that order: `visual_keep_ratio`, `audio_keep_ratio`, `fine_drop_ratio`, `global_rule`,
`global_layer` (which is never raised). Every step on the way drops at least as much as the one
before, so the place where the budget is met is found by bisection. The counts are exact, but for
a rule of positions or frames after DivPrune: how many rows it leaves depends on DivPrune's picks,
which are taken to lie evenly.
"""

from __future__ import annotations

import functools
import logging
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, method_hooks
from fastav_plugin.hooks.knobs import Knob, Ladder
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens
from fastav_plugin.tokens import Modality, TokenMap

logger = logging.getLogger(__name__)

#: Within this share of dense a budget counts as met exactly, and no second knob is moved for it.
CLOSE = 0.001


@dataclass(frozen=True)
class Budget:
    """What `FastAVConfig.for_model` was asked for.

    Attributes:
        target: prefill FLOPs as a share of dense, in (0, 1].
        prompt: a TokenMap, token counts by modality, or what generate() would get.
        fixed: fields that the caller gave, which do not give way.
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
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise ConfigError(f"`target_flops` must lie in (0, 1], got {target!r}.")
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
    knobs = _knobs(config, budget.fixed, tokens)
    ladders = [knob.ladder(config, tokens, depth) for knob in knobs]
    search = _Search(config, knobs, ladders, share)
    found = search.nearest(target)
    if found is None:
        _, reason = plan_tokens(config, tokens, layers)
        raise ConfigError(_unreachable(config, budget, search, reason))
    chosen, reached = found
    names = [knob.field for knob in search.knobs]
    settings = ", ".join(f"{name}={getattr(chosen, name)!r}" for name in names) or "nothing"
    sizes = ", ".join(
        f"{count / tokens.rows:g} {kind.name.lower()}"
        for kind in list(Modality)[1:]
        if (count := int(tokens.mask(kind).sum()))
    )
    about = "about " if _depends_on_picks(chosen) else ""
    about = "at most " if any(hook.counts_vary for hook in method_hooks(chosen)) else about
    told = (
        f"{settings} for target_flops={target:g}: the prefill of a prompt of {sizes} tokens takes "
        f"{about}{100 * reached:.1f} % of the dense FLOPs."
    )
    logger.info("fastav: method %r chose %s", config.method, told)
    return chosen.explained(f"Chosen: {told}")


def _depends_on_picks(config: FastAVConfig) -> bool:
    """Whether a rule of positions or frames follows a hook whose picks only real features tell."""
    hooks = method_hooks(config)
    picks = any(type(hook).rehearse is not LayerHook.rehearse for hook in hooks)
    ruled = any(knob.field == "global_rule" for hook in hooks for knob in hook.knobs)
    rules = config.rules().values()
    return picks and ruled and any(rule.startswith("below") or "frames" in rule for rule in rules)


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


def _knobs(config: FastAVConfig, fixed: frozenset[str], tokens: TokenMap) -> list[Knob]:
    """The method's knobs that are free and act on this prompt, those that give way first first."""
    if config.hooks is not None:
        raise ConfigError(
            "`target_flops` chooses the ratios of a method, and `hooks` have ratios of their own. "
            "Give one or the other."
        )
    found = {knob for hook in method_hooks(config) for knob in hook.knobs}
    acting = [
        knob for knob in found if knob.field not in fixed and bool(tokens.mask(*knob.kinds).any())
    ]
    return sorted(acting, key=lambda knob: knob.rank)


def _unreachable(config: FastAVConfig, budget: Budget, search: _Search, reason: str | None) -> str:
    lowest = search.config_at(search.last)
    named = ", ".join(f"{knob.field}={getattr(lowest, knob.field)!r}" for knob in search.knobs)
    fixed = sorted(budget.fixed & {field.name for field in fields(config)})
    remedies = ["raise the target"]
    if reason is not None:
        why = f"because {reason}"
        remedies += ["lower `min_media_tokens`"] if "min_media_tokens" in reason else []
    else:
        why = f"with {named}" if search.knobs else "for no setting of this method is left to choose"
        remedies += ["give fewer settings yourself"] if fixed else []
        if "divprune" not in config.method:
            remedies.append("add DivPrune (method='fastav+divprune')")
    remedy = " or ".join(remedies)
    return (
        f"`target_flops`={budget.target:g} cannot be reached by method {config.method!r} on this "
        f"prompt: the lowest is {search.share(search.last):.4f}, {why}. "
        f"{remedy[0].upper()}{remedy[1:]}."
    )


class _Search:
    """The path from the loosest to the strictest setting of all knobs, and bisection on it.

    Args:
        config: holds the defaults.
        knobs: in the order in which they give way.
        ladders: the values of each.
        share: FLOPs of a config as a share of dense.
    """

    def __init__(
        self, config: FastAVConfig, knobs: list[Knob], ladders: list[Ladder], share: Any
    ) -> None:
        self.knobs = knobs
        self._config = config
        self._share = share
        self._ladders = ladders
        #: (knob, steps): on the way down each leg moves one knob by so many values.
        self._legs = [
            *((k, ladder.default) for k, ladder in reversed(list(enumerate(self._ladders)))),
            *((k, ladder.usual - ladder.default) for k, ladder in enumerate(self._ladders)),
            *((k, _top(ladder) - ladder.usual) for k, ladder in enumerate(self._ladders)),
        ]
        self.share = functools.cache(self._share_at)

    @property
    def last(self) -> tuple[int, ...]:
        """Place of the strictest setting: an index into each knob's ladder."""
        return tuple(_top(ladder) for ladder in self._ladders)

    def config_at(self, place: tuple[int, ...]) -> FastAVConfig:
        """The config with each knob at an index of its ladder."""
        values = zip(self.knobs, self._ladders, place, strict=True)
        return self._config.replace(
            **{knob.field: ladder.values[index] for knob, ladder, index in values}
        )

    def nearest(self, target: float) -> tuple[FastAVConfig, float] | None:
        """The setting nearest to the target that does not exceed it, and its share; or None."""
        if self.share(self.last) > target:
            return None
        step = _first(sum(steps for _, steps in self._legs), lambda s: self._meets(s, target))
        best = self._place(step)
        if self.share(best) < target - CLOSE:
            # The knob that moved last has coarse steps: let a finer one take up the rest.
            best = max([best, *self._finer(step, target)], key=self.share)
        return self.config_at(best), self.share(best)

    def _finer(self, step: int, target: float) -> list[tuple[int, ...]]:
        """Places beside a step of the path, one other knob moved, that meet the target."""
        found = []
        here = self._place(step)
        before = self._place(max(0, step - 1))
        for start in (here, before):
            for knob, ladder in enumerate(self._ladders):
                if start is before and here[knob] != before[knob]:
                    continue  # moving this one is the path itself

                def at(
                    index: int, start: tuple[int, ...] = start, knob: int = knob
                ) -> tuple[int, ...]:
                    return (*start[:knob], index, *start[knob + 1 :])

                if self.share(at(_top(ladder))) <= target:
                    index = _first(_top(ladder), lambda i, at=at: self.share(at(i)) <= target)
                    found.append(at(index))
        return found

    def _meets(self, step: int, target: float) -> bool:
        return self.share(self._place(step)) <= target

    def _place(self, step: int) -> tuple[int, ...]:
        """Where each knob stands after so many steps of the path."""
        place = [0] * len(self._ladders)
        for knob, steps in self._legs:
            taken = min(step, steps)
            place[knob] += taken
            step -= taken
        return tuple(place)

    def _share_at(self, place: tuple[int, ...]) -> float:
        return float(self._share(self.config_at(place)))


def _top(ladder: Ladder) -> int:
    return len(ladder.values) - 1


def _first(last: int, holds: Any) -> int:
    """The least number in 0..last for which a condition holds that, once true, stays so."""
    low = 0
    while low < last:
        middle = (low + last) // 2
        if holds(middle):
            last = middle
        else:
            low = middle + 1
    return low
