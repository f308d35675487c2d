"""The values that a FLOPs budget may give to a field of FastAVConfig."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.global_rule import MEDIA, rules_by_modality
from fastav_plugin.tokens import Modality, TokenMap

#: Ratios are tried in thousandths: finer ones would be hard to read in a config.
_GRID = 1000

#: Of each ratio: the value that drops nothing, the soft bound, and the last value tried.
_RATIOS = {
    "visual_keep_ratio": (1.0, 0.25, 0.01),
    "audio_keep_ratio": (1.0, 0.25, 0.01),
    "fine_drop_ratio": (0.0, 0.5, 0.95),
}

_ALL = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)

#: Fields in the order in which they are changed, and the modalities each acts on.
TUNABLE: dict[str, tuple[Modality, ...]] = {
    "visual_keep_ratio": (Modality.IMAGE, Modality.VIDEO),
    "audio_keep_ratio": (Modality.AUDIO,),
    "fine_drop_ratio": _ALL,
    "global_rule": _ALL,
    "global_layer": _ALL,
}


@dataclass(frozen=True)
class Candidates:
    """The values of one field for one prompt.

    Attributes:
        field: name of the field.
        values: each drops at least as many tokens as the one before.
        default: index of the value in the config.
        soft_bound: index of the strictest value that is tried before other fields are changed.
    """

    field: str
    values: list[Any]
    default: int
    soft_bound: int

    @property
    def last(self) -> int:
        """Index of the strictest value."""
        return len(self.values) - 1


def candidates(field: str, config: FastAVConfig, tokens: TokenMap, depth: range) -> Candidates:
    """The values to try for one field of `TUNABLE`; `depth` are the layers that may be cut."""
    if field == "global_rule":
        return _rules(config, tokens)
    if field == "global_layer":
        return _layers(config, depth)
    given = getattr(config, field)
    if field == "fine_drop_ratio" and given is None:
        given = DEFAULTS.drop_ratio
    return _ratios(field, given)


def _ratios(field: str, given: float | None) -> Candidates:
    """A grid and the default; None stands for the loosest."""
    loosest, bound, strictest = _RATIOS[field]
    default = loosest if given is None else float(given)
    low, high = sorted((loosest, strictest))
    grid = {step / _GRID for step in range(_GRID + 1) if low <= step / _GRID <= high}
    values: list[Any] = sorted(grid | {default}, reverse=loosest > strictest)
    index, soft = values.index(default), values.index(bound)
    if given is None:
        values[index] = None
    return Candidates(field, values, index, max(soft, index))


def _layers(config: FastAVConfig, depth: range) -> Candidates:
    """The default, then lower layers; the soft bound is half way down."""
    given = config.global_layer
    default = DEFAULTS.layer(depth.stop) if given is None else given
    lower = list(range(default - 1, depth.start - 1, -1))
    soft = sum(layer >= default // 2 for layer in lower)
    return Candidates("global_layer", [given, *lower], 0, soft)


def _rules(config: FastAVConfig, tokens: TokenMap) -> Candidates:
    """Every number of the rule grows or shrinks in proportion; the soft bound is a quarter."""
    rules = rules_by_modality(DEFAULTS.rule if config.global_rule is None else config.global_rule)
    masks = {name: tokens.mask(Modality[name.upper()]) for name in MEDIA}
    present = [name for name in MEDIA if bool(masks[name].any())]
    highest = {name: rules[name].highest(masks[name], tokens.frame) for name in present}
    now = {
        name: most if rules[name].counts == "all" else min(most, rules[name].number)
        for name, most in highest.items()
    }
    up = max((highest[name] - now[name] for name in present), default=0)
    down = max(now.values(), default=0)

    def rule_at(number: Callable[[str], int]) -> str | dict[str, str]:
        made = {name: rules[name].scaled(number(name), highest[name]) for name in present}
        distinct = set(made.values())
        # One rule for all media stays one, whatever the prompt lacks.
        if isinstance(config.global_rule, str) and len(distinct) == 1:
            return str(distinct.pop())
        return {name: str(rule) for name, rule in {**rules, **made}.items()}

    def wider(step: int) -> str | dict[str, str]:
        return rule_at(lambda name: now[name] + -(-(highest[name] - now[name]) * step // up))

    def narrower(step: int) -> str | dict[str, str]:
        return rule_at(lambda name: now[name] * step // down)

    values: list[Any] = [wider(step) for step in range(up, 0, -1)]
    values.append(config.global_rule)
    values += [narrower(step) for step in range(down - 1, -1, -1)]
    return Candidates("global_rule", values, up, up + down - down // 4)
