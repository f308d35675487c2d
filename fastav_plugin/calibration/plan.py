"""What a calibration is asked to do."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from fastav_plugin.config import FastAVConfig, check_ratio
from fastav_plugin.errors import ConfigError

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
            settings, the last measures what was chosen.
        seed: of their choice.
        alpha: of the rollout.
        read: which part of the rollout makes rules: "last_row" or "column_sums".
        thresholds: shares of the rollout's mass among the media that a rule must keep.
        layers: of the global cut; None for those around the middle and the one from which on the
            profile is stable.
        drop_ratios: of the fine cut.
        stable: total variation distance below which a layer leaves the profile as it is.
        max_kl: highest mean KL(dense || pruned) allowed, in nats; the upper end of its 95 %
            interval on the samples of the choice, and the mean on those of the check.
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
    thresholds: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9)
    layers: Sequence[int] | None = None
    drop_ratios: Sequence[float] = (0.1, 0.2, 0.4)
    stable: float = 0.05
    max_kl: float = 0.02
    tokens: int = 1
    full: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ratio("alpha", self.alpha, "(0, 1]")
        check_ratio("stable", self.stable, "(0, 1]")
        for threshold in self.thresholds:
            check_ratio("thresholds", threshold, "(0, 1]")
        if not self.thresholds:
            raise ConfigError("`thresholds` must hold at least one.")
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

    def config(self, **fields: Any) -> FastAVConfig:
        """A config of this method."""
        return FastAVConfig(**{"method": self.method, **self.overrides, **fields})

    def searched(self) -> dict[str, Any]:
        """What the search depends on besides the prompts and their rollout, as plain JSON data."""
        of_rollout = ("samples", "seed", "alpha")
        facts = {name: value for name, value in vars(self).items() if name not in of_rollout}
        return dict(json.loads(json.dumps(facts)))
