"""What a calibration is asked to do."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fastav_plugin.config import FastAVConfig, check_ratio
from fastav_plugin.errors import ConfigError

if TYPE_CHECKING:
    from fastav_plugin.calibration.data import PromptSource, Split

#: What is read of the rollout matrix R: its last row, which decides the next token, and its column
#: sums, what each token contributes to all.
READ = ("last_row", "column_sums")

#: Fields of FastAVConfig that a calibration finds, or that would replace them.
FOUND = {"global_rule", "global_layer", "fine_drop_ratio", "calibration", "hooks", "method"}


@dataclass(frozen=True, kw_only=True)
class CalibrationPlan:
    """What to calibrate.

    Attributes:
        method: with a global cut: "fastav" or "fastav+divprune".
        samples: how many prompts, at most; a third makes the rules, another serves to choose among
            settings, the last, with the first, measures what was chosen.
        seed: of their choice.
        alpha: of the rollout.
        read: which part of the rollout makes rules: "last_row" or "column_sums".
        thresholds: shares of the rollout's mass among the media that a positional rule must keep;
            none for "all" alone. A positional rule fails wherever what is asked for lies behind
            it, which few samples do not show.
        layers: of the global cut; None for those around the middle and the one from which on the
            profile is stable.
        drop_ratios: of the fine cut.
        stable: total variation distance below which a layer leaves the profile as it is.
        max_kl: highest mean KL(dense || pruned) allowed, in nats; of the upper end of its 95 %
            interval.
        margin: share of `max_kl` that is held back where settings are chosen, in [0, 1): the
            cheapest of many is measured too well there. With 0 nothing else is done about it
            either: no stricter setting has to pass as well, and the check is by the mean, without
            the samples that made the rules.
        tokens: how many tokens of the dense answer are compared.
        full: whether every candidate is measured on every prompt, not only as far as it takes to
            find the cheapest.
        overrides: other fields of FastAVConfig.
    """

    method: str = "fastav"
    samples: int = 100
    seed: int = 0
    alpha: float = 0.5
    read: str = "last_row"
    thresholds: Sequence[float] = ()
    layers: Sequence[int] | None = None
    drop_ratios: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.6)
    stable: float = 0.05
    max_kl: float = 0.02
    margin: float = 0.5
    tokens: int = 8
    full: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ratio("alpha", self.alpha, "(0, 1]")
        check_ratio("stable", self.stable, "(0, 1]")
        for threshold in self.thresholds:
            check_ratio("thresholds", threshold, "(0, 1]")
        check_ratio("margin", self.margin, "[0, 1)")
        if self.read not in READ:
            raise ConfigError(f"`read` must be one of {', '.join(READ)}, got {self.read!r}.")
        for name, value in (("samples", self.samples), ("tokens", self.tokens)):
            if value < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {value}.")
        if not self.drop_ratios or not self.max_kl >= 0:
            raise ConfigError("Give at least one drop ratio, and a `max_kl` of at least 0.")
        if wrong := sorted(FOUND & set(self.overrides)):
            raise ConfigError(f"{', '.join(wrong)} cannot be given: the calibration finds them.")
        for ratio in self.drop_ratios:
            self.config(fine_drop_ratio=ratio)
        from fastav_plugin.hooks.fastav import GlobalPruning  # imports torch
        from fastav_plugin.hooks.registry import method_hooks

        if not any(isinstance(hook, GlobalPruning) for hook in method_hooks(self.config())):
            raise ConfigError(
                f"The method {self.method!r} makes no global cut, so nothing is to be calibrated. "
                "Use 'fastav' or 'fastav+divprune'."
            )

    def starting_from(self, fields: Mapping[str, Any]) -> Self:
        """The plan whose other fields are those of a settings file, where none were given.

        Those that the calibration finds are left out, and ratios that the method has no use for.
        """
        from fastav_plugin.hooks.plannable import tunable_fields  # imports torch
        from fastav_plugin.hooks.registry import method_hooks

        used = {*tunable_fields(method_hooks(self.config())), "positions", "min_media_tokens"}
        kept = {
            each.name: fields[each.name]
            for each in dataclasses.fields(FastAVConfig)
            if each.name in used - FOUND and fields.get(each.name, each.default) != each.default
        }
        return dataclasses.replace(self, overrides={**kept, **self.overrides})

    @property
    def chosen_within(self) -> float:
        """Highest KL allowed where settings are chosen."""
        return self.max_kl * (1 - self.margin)

    def split(self, source: "PromptSource") -> "Split":
        """The samples of each part; what made the rules checks the choice as well."""
        from fastav_plugin.calibration.data import draw  # imports torch

        parts = draw(source, self.samples, self.seed)
        if not parts.check or not self.margin:
            return parts
        return dataclasses.replace(parts, check=sorted([*parts.rules, *parts.check]))

    def config(self, **fields: Any) -> FastAVConfig:
        """A config of this method."""
        return FastAVConfig(**{"method": self.method, **self.overrides, **fields})

    def searched(self) -> dict[str, Any]:
        """What the search depends on besides the prompts and their rollout, as plain JSON data."""
        of_rollout = ("samples", "seed", "alpha")
        facts = {name: value for name, value in vars(self).items() if name not in of_rollout}
        return dict(json.loads(json.dumps(facts)))
