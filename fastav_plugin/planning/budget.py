"""A budget of FLOPs: which ratios make a prompt's prefill cost a given share of dense.

Fields of the config are changed in the order of `candidates.TUNABLE`. Starting from the config's
own values, a smaller budget first takes each field in turn to its soft bound, then each to its
last value; a larger one loosens each field in turn until it drops nothing (`global_layer` is never
raised). Every step on this path drops at least as much as the one before, so a step that meets
the budget is found by bisection. It costs less, too, except where DivPrune begins to choose among
further tokens; what is found then meets the budget as well. The counts are exact, except for a
rule of positions or frames after DivPrune: how many tokens it keeps depends on DivPrune's picks,
which are assumed to lie at even distances.
"""

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
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import rules_by_modality
from fastav_plugin.hooks.divprune import DivPrune
from fastav_plugin.hooks.plannable import PlannableHook, counts_vary, tunable_fields
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.planning.candidates import TUNABLE, Candidates, candidates
from fastav_plugin.planning.dry_run import PromptSize, plan_prefill
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.tokens import Modality, TokenMap

logger = logging.getLogger(__name__)

#: A choice of values: for each field, an index into its candidates.
Setting = tuple[int, ...]

#: Within this share of dense a budget counts as met, and no second field is changed for it.
CLOSE = 0.001


@dataclass(frozen=True)
class Budget:
    """The share of the dense FLOPs that is wanted, for which prompt; `fixed` fields stay."""

    target: float
    prompt: Any
    fixed: frozenset[str]


def fit_budget(
    config: FastAVConfig, budget: Budget, override: ModelOverride, model_config: Any
) -> FastAVConfig:
    """The config whose theoretical FLOPs are at most, and as near as possible to, the target.

    They are those of a report: of the layers, and of choosing the tokens.

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
    lengths: list[int] = tokens.valid.sum(dim=1).tolist()

    depth = range(max(1, override.deepstack_layers(model_config)), layers)
    names = _free_fields(config, budget, tokens)
    tried = [candidates(name, config, tokens, depth) for name in names]

    def config_at(setting: Setting) -> FastAVConfig:
        chosen = zip(tried, setting, strict=True)
        return config.replace(**{each.field: each.values[index] for each, index in chosen})

    @functools.cache
    def share(setting: Setting) -> float:
        plan = plan_prefill(config_at(setting), tokens, layers, cost)
        return plan.flops_ratio(cost, lengths)

    def shown(setting: Setting) -> str:
        return ", ".join(f"{name}={getattr(config_at(setting), name)!r}" for name in names)

    path = list(_path(tried))
    last = path[-1]
    if share(last) > target:
        reason = plan_prefill(config, tokens, layers).reason
        raise ConfigError(_unreachable(config, budget, share(last), shown(last), reason))
    setting = _nearest(path, tried, share, target)
    chosen = config_at(setting)
    sizes = ", ".join(
        f"{count / tokens.rows:g} {modality.name.lower()}"
        for modality in list(Modality)[1:]
        if (count := int(tokens.mask(modality).sum()))
    )
    explanation = (
        f"{shown(setting) or 'nothing'} for target_flops={target:g}: the prefill of a prompt of "
        f"{sizes} tokens takes {_precision(chosen)}{100 * share(setting):.1f} % of the dense FLOPs."
    )
    logger.info("fastav: method %r chose %s", config.method, explanation)
    return chosen.explained(f"Chosen: {explanation}")


def _precision(config: FastAVConfig) -> str:
    """How well a dry run knows the counts."""
    hooks = method_hooks(config)
    if counts_vary(hooks):
        return "at most "
    # What a hook with a dry run of its own picks depends on the features.
    picks = any(
        isinstance(hook, PlannableHook) and type(hook).dry_run is not PlannableHook.dry_run
        for hook in hooks
    )
    if not picks or "global_rule" not in tunable_fields(hooks) or config.global_rule is None:
        return ""
    rules = rules_by_modality(config.global_rule).values()
    return "about " if any(rule.counts in ("below", "frames") for rule in rules) else ""


def read_prompt(prompt: Any, override: ModelOverride, model_config: Any) -> TokenMap:
    """The TokenMap of a prompt that was described in one of several ways.

    These are a TokenMap; counts such as `{"text": 50, "video": 676, "frames": 4}`, laid out system
    prompt, image, video, audio, question; the inputs of generate(), or their `input_ids` [B, T]
    alone. Anything else is a ConfigError.
    """
    if isinstance(prompt, TokenMap):
        return prompt
    if isinstance(prompt, Tensor):
        prompt = {"input_ids": prompt}
    if isinstance(prompt, Mapping) and isinstance(prompt.get("input_ids"), Tensor):
        ids, mask = prompt["input_ids"], prompt.get("attention_mask")
        return override.token_map(model_config, ids, mask, dict(prompt))
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


def _free_fields(config: FastAVConfig, budget: Budget, tokens: TokenMap) -> list[str]:
    """The fields that may be changed and act on this prompt, in order."""
    if config.hooks is not None:
        raise ConfigError(
            "`target_flops` chooses the ratios of a method, and `hooks` have ratios of their own. "
            "Give one or the other."
        )
    free = tunable_fields(method_hooks(config)) - budget.fixed
    rule = DEFAULTS.rule if config.global_rule is None else config.global_rule
    if all(each.counts == "all" for each in rules_by_modality(rule).values()):
        # A rule of positions would cut what lies behind them in every longer prompt.
        free -= {"global_rule"}
    return [
        name
        for name, modalities in TUNABLE.items()
        if name in free and bool(tokens.mask(*modalities).any())
    ]


def _unreachable(
    config: FastAVConfig, budget: Budget, lowest: float, settings: str, reason: Reason | None
) -> str:
    remedies = ["raise the target"]
    if reason is not None:
        why = f"because {reason.sentence(config.min_media_tokens)}"
        remedies += ["lower `min_media_tokens`"] if reason is Reason.FEW_MEDIA else []
    else:
        why = f"with {settings}" if settings else "for no setting of this method is left to choose"
        fixed = budget.fixed & {field.name for field in fields(config)}
        remedies += ["give fewer settings yourself"] if fixed else []
        if not any(isinstance(hook, DivPrune) for hook in method_hooks(config)):
            remedies.append("add DivPrune (method='fastav+divprune')")
    remedy = " or ".join(remedies)
    return (
        f"`target_flops`={budget.target:g} cannot be reached by method {config.method!r} on this "
        f"prompt: the lowest is {lowest:.4f}, {why}. {remedy[0].upper()}{remedy[1:]}."
    )


def _path(tried: list[Candidates]) -> Iterator[Setting]:
    """The settings from the loosest to the strictest, one field changed by one value at a time."""
    numbered = list(enumerate(tried))
    legs = [(number, each.default) for number, each in reversed(numbered)]
    legs += [(number, each.soft_bound) for number, each in numbered]
    legs += [(number, each.last) for number, each in numbered]
    setting = [0] * len(tried)
    yield tuple(setting)
    for number, end in legs:
        while setting[number] < end:
            setting[number] += 1
            yield tuple(setting)


def _nearest(
    path: list[Setting], tried: list[Candidates], share: Callable[[Setting], float], target: float
) -> Setting:
    """The setting nearest to a target that it does not exceed; the path's last one meets it."""

    def first(settings: list[Setting]) -> Setting:
        """The first that meets the target; the last one does."""
        if share(settings[0]) <= target:
            return settings[0]
        return settings[bisect_left(settings[:-1], True, key=lambda each: share(each) <= target)]

    best = first(path)
    if share(best) >= target - CLOSE:
        return best
    # The field that was changed last has coarse steps: let a finer one take up the rest.
    found = [best]
    before = path[max(0, path.index(best) - 1)]
    for start in (best, before):
        for number, each in enumerate(tried):
            if start is before and best[number] != before[number]:
                continue  # changing this field is the path itself
            head, tail = start[:number], start[number + 1 :]
            line = [(*head, index, *tail) for index in range(each.last + 1)]
            if share(line[-1]) <= target:
                found.append(first(line))
    return max(found, key=share)
