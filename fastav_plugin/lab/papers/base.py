"""The settings that every table starts from: a model's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.global_rule import GlobalRule
from fastav_plugin.lab.papers.setting import Hooks
from fastav_plugin.tokens import Modality, TokenMap


@dataclass(frozen=True)
class Base:
    """A model's own settings and the prompt of its tables.

    Attributes:
        config: FastAV's and DivPrune's settings, with the global rule filled in.
        layers: decoder layers L.
        prompt: one prompt; the questions' prompts differ from it in a word or two.
    """

    config: FastAVConfig
    layers: int
    prompt: TokenMap

    @property
    def cut(self) -> int:
        """Layer of the global cut."""
        given = self.config.global_layer
        return self.layers // 2 if given is None else given

    @property
    def rules(self) -> dict[str, str]:
        """The positional rule of each modality in the prompt."""
        rules = self.config.rules()
        return {name: rules[name] for name in self._counts()}

    def fastav(
        self, layer: int | None = None, drop: float | None = None, rule: Any = None
    ) -> Hooks:
        """FastAV: the global cut, and the fine cuts after it."""
        layer = self.cut if layer is None else layer
        rule = self.rules if rule is None else rule
        cut = {"name": "global_pruning", "rule": rule, "layer": layer}
        return [cut, self.fine(layer, drop)]

    def fine(self, layer: int | None = None, drop: float | None = None) -> dict[str, Any]:
        """FastAV's fine cuts."""
        return {
            "name": "fine_pruning",
            "drop_ratio": self.config.fine_drop_ratio if drop is None else drop,
            "after_layer": self.cut if layer is None else layer,
        }

    def divprune(self, ratio: float | None = None) -> dict[str, Any]:
        """DivPrune; at one ratio for all media, or at the model's own."""
        if ratio is not None:
            return ratios("div_prune", ratio)
        return {
            "name": "div_prune",
            "visual_keep_ratio": self.config.visual_keep_ratio,
            "audio_keep_ratio": self.config.audio_keep_ratio,
        }

    def first(self, share: float) -> dict[str, str]:
        """A positional rule that keeps the first so many tokens of each modality."""
        return {
            name: str(GlobalRule("tokens", count).times(share))
            for name, count in self._counts().items()
        }

    def _counts(self) -> dict[str, int]:
        kinds = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
        counts = {kind.name.lower(): int(self.prompt.mask(kind).sum()) for kind in kinds}
        return {name: count for name, count in counts.items() if count}


def ratios(name: str, ratio: float, **others: Any) -> dict[str, Any]:
    """A hook with one keep ratio for all media."""
    return {"name": name, "visual_keep_ratio": ratio, "audio_keep_ratio": ratio, **others}


def scale_rule(rules: Mapping[str, str], factor: float) -> dict[str, str]:
    """Rules with other numbers: "first 10 tokens" times 4 is "first 40 tokens"; "all" stays."""
    return {name: str(GlobalRule.parse(rule).times(factor)) for name, rule in rules.items()}
