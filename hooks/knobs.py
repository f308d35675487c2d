"""Knobs: the settings of a method that give way when a budget of FLOPs is to be met."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from fastav_plugin.config import MEDIA, FastAVConfig
from fastav_plugin.tokens import Modality, TokenMap

#: Ratios are tried in thousandths, which is as fine as a reader of the config wants them.
_GRID = 1000


@dataclass(frozen=True)
class Ladder:
    """The values one setting may take for one prompt, from the loosest to the strictest.

    Attributes:
        values: each drops at least as many tokens as the one before.
        default: index of the value the config came with.
        usual: index of the strictest value that is still sensible.
    """

    values: list[Any]
    default: int
    usual: int


@dataclass(frozen=True, kw_only=True)
class Knob(ABC):
    """One field of FastAVConfig that may give way.

    Attributes:
        field: name of the field.
        rank: knobs of a lower rank give way first.
        kinds: modalities it acts on; without them in the prompt it stays as it is.
    """

    field: str
    rank: int
    kinds: tuple[Modality, ...] = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)

    @abstractmethod
    def ladder(self, config: FastAVConfig, tokens: TokenMap, depth: range) -> Ladder:
        """The values to try for one prompt.

        Args:
            config: holds the default.
            tokens: the prompt.
            depth: the layers that a cut may be made on entering.
        """


@dataclass(frozen=True, kw_only=True)
class RatioKnob(Knob):
    """A ratio between 0 and 1; a field that is None stands at the loosest.

    Attributes:
        loosest: the value that drops nothing.
        usual: the strictest sensible value.
        strictest: the last value tried.
    """

    loosest: float
    usual: float
    strictest: float

    @override
    def ladder(self, config: FastAVConfig, tokens: TokenMap, depth: range) -> Ladder:
        given = getattr(config, self.field)
        default = self.loosest if given is None else float(given)
        low, high = sorted((self.loosest, self.strictest))
        grid = {step / _GRID for step in range(_GRID + 1) if low <= step / _GRID <= high}
        values = sorted(grid | {default}, reverse=self.loosest > self.strictest)
        sign = 1 if self.loosest < self.strictest else -1
        usual = max(i for i, value in enumerate(values) if sign * value <= sign * self.usual)
        index = values.index(default)
        named: list[Any] = list(values)
        if given is None:
            named[index] = None
        return Ladder(named, index, max(usual, index))


#: The keep ratios of methods that have one for each kind.
KEEP_KNOBS = (
    RatioKnob(
        field="visual_keep_ratio",
        rank=0,
        kinds=(Modality.IMAGE, Modality.VIDEO),
        loosest=1,
        usual=0.25,
        strictest=0.01,
    ),
    RatioKnob(
        field="audio_keep_ratio",
        rank=1,
        kinds=(Modality.AUDIO,),
        loosest=1,
        usual=0.25,
        strictest=0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class RuleKnob(Knob):
    """The rule of the global cut: every number in it grows or shrinks in proportion."""

    @override
    def ladder(self, config: FastAVConfig, tokens: TokenMap, depth: range) -> Ladder:
        rules = config.rules() or dict.fromkeys(MEDIA, "below 750")
        scales = {
            name: _scale(rule, Modality[name.upper()], tokens) for name, rule in rules.items()
        }
        present = [name for name in MEDIA if bool(tokens.mask(Modality[name.upper()]).any())]
        up = max((scales[name].most - scales[name].now for name in present), default=0)
        down = max((scales[name].now for name in present), default=0)

        def rule_at(share: Callable[[_Scale], int]) -> str | dict[str, str]:
            made = {
                name: scale.rule(share(scale)) if name in present else rules[name]
                for name, scale in scales.items()
            }
            # One rule for all media stays one, whatever the prompt lacks.
            distinct = {made[name] for name in present}
            plain = isinstance(config.global_rule, str) and len(distinct) == 1
            return distinct.pop() if plain else made

        def wider(step: int) -> str | dict[str, str]:
            return rule_at(lambda scale: scale.now + -(-(scale.most - scale.now) * step // up))

        def narrower(step: int) -> str | dict[str, str]:
            return rule_at(lambda scale: scale.now * step // down)

        values: list[Any] = [wider(step) for step in range(up, 0, -1)]
        values.append(config.global_rule)
        values += [narrower(step) for step in range(down - 1, -1, -1)]
        return Ladder(values, up, up + down - down // 4)


@dataclass(frozen=True, kw_only=True)
class LayerKnob(Knob):
    """The layer of a cut: it moves down from its default, sensibly as far as half way."""

    @override
    def ladder(self, config: FastAVConfig, tokens: TokenMap, depth: range) -> Ladder:
        given = getattr(config, self.field)
        default = depth.stop // 2 if given is None else int(given)
        lower = list(range(default - 1, depth.start - 1, -1))
        usual = sum(layer >= default // 2 for layer in lower)
        return Ladder([given, *lower], 0, usual)


@dataclass(frozen=True)
class _Scale:
    """One modality's rule as a number on a scale of its own: 0 keeps nothing, `most` keeps all."""

    form: str
    now: int
    most: int

    def rule(self, number: int) -> str:
        return "all" if number >= self.most else self.form.format(number)


def _scale(rule: str, kind: Modality, tokens: TokenMap) -> _Scale:
    rows = tokens.mask(kind)
    words = rule.split()
    if words[0] == "below":
        form, most = "below {}", tokens.length
    elif words[-1] == "frames":
        # Frames are numbered within a row, so the number of the last bounds their count.
        frames = tokens.frame.masked_fill(~rows, -1)
        form, most = "first {} frames", int(frames.max()) + 1
    else:
        form, most = "first {} tokens", int(rows.sum(dim=1).max())
    now = most if rule == "all" else min(most, int(words[1]))
    return _Scale(form, now, most)
