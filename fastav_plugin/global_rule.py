"""GlobalRule: which media tokens FastAV's global cut keeps, as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastav_plugin.errors import ConfigError, TokenMapError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

#: Modalities that may have a rule of their own, by name.
MEDIA = ("image", "video", "audio")

_GRAMMAR = re.compile(r"(all)|first (\d+) (tokens|frames)|(below) (\d+)")


@dataclass(frozen=True)
class GlobalRule:
    """A positional rule, known before inference; `str()` gives its text.

    Attributes:
        counts: "all", "tokens", "frames" or "below".
        number: how many tokens or frames are kept, or below which position; 0 for "all".
    """

    counts: str
    number: int = 0

    @classmethod
    def parse(cls, text: Any, name: str = "`global_rule`") -> GlobalRule:
        """Read "all", "first N tokens", "first N frames" or "below N"; an error says `name`."""
        found = _GRAMMAR.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(
                f"{name} must be 'all', 'first N tokens', 'first N frames' or 'below N', "
                f"got {text!r}."
            )
        every, first, unit, below, position = found.groups()
        return cls(every or unit or below, int(first or position or 0))

    def __str__(self) -> str:
        if self.counts in ("all", "below"):
            return "all" if self.counts == "all" else f"below {self.number}"
        return f"first {self.number} {self.counts}"

    def keeps(self, candidates: Tensor, alike: Tensor, positions: Tensor, frame: Tensor) -> Tensor:
        """Bool [B, T], True where a candidate satisfies the rule; meaningless elsewhere.

        Args:
            candidates: bool [B, T], tokens of one modality.
            alike: bool [B, T], tokens of all modalities that have this very rule.
            positions: int64 [B, T], counted from each batch row's first real token.
            frame: int64 [B, T], video frame, -1 where unknown, which a rule of frames refuses.
        """
        if self.counts == "all":
            return candidates.new_ones(candidates.shape)
        if self.counts == "below":
            return positions < self.number
        if self.counts == "tokens":
            return candidates.cumsum(dim=1) <= self.number
        if bool((candidates & (frame < 0)).any()):
            raise TokenMapError(
                f"The rule '{self}' needs the frame of every token, which this prompt's TokenMap "
                "does not know. Use 'first N tokens' or 'below N', or pass a TokenMap with frames."
            )
        # Frames ascend in prompt order, so a token begins a frame if it is past all before it.
        before = frame.masked_fill(~alike, -1).cummax(dim=1).values.roll(1, dims=1)
        before[:, :1] = -1
        return (alike & (frame > before)).cumsum(dim=1) <= self.number

    def highest(self, candidates: Tensor, frame: Tensor) -> int:
        """The number from which on the rule keeps all candidates; arguments as of `keeps`."""
        if self.counts == "below":
            return candidates.shape[1]
        if self.counts == "frames":
            # Frames are numbered within a batch row, so the last one's number bounds their count.
            return int(frame.masked_fill(~candidates, -1).max()) + 1
        return int(candidates.sum(dim=1).max())

    def scaled(self, number: int, highest: int) -> GlobalRule:
        """The rule with another number; "all" from the highest number on."""
        if number >= highest:
            return GlobalRule("all")
        return replace(self, counts=self.counts.replace("all", "tokens"), number=number)

    def times(self, factor: float) -> GlobalRule:
        """The rule with its number multiplied, rounded, and at least 1; "all" stays."""
        if self.counts == "all":
            return self
        return replace(self, number=max(1, round(self.number * factor)))


def rules_by_modality(rule: Any) -> dict[str, GlobalRule]:
    """The rule of each of `MEDIA`: one for all, or those of a mapping, which may leave some out."""
    given = rule if isinstance(rule, Mapping) else dict.fromkeys(MEDIA, rule)
    for name in given:
        if name not in MEDIA:
            raise unknown_name("modality of `global_rule`", name, MEDIA)
    return {
        name: GlobalRule.parse(given.get(name, "all"), f"`global_rule` for {name}")
        for name in MEDIA
    }


def read_rules(text: str) -> str | dict[str, str]:
    """'below 750' as it is; 'video=all, audio=first 10 tokens' as a mapping."""
    if "=" not in text:
        return text.strip()
    pairs = (part.partition("=") for part in text.split(","))
    return {modality.strip(): rule.strip() for modality, _, rule in pairs}
