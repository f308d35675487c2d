"""Settings to try: positional rules from a rollout profile, at several layers and drop ratios."""

import itertools
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.calibration.rollout_profile import FRAME, POSITION, RolloutProfile
from fastav_plugin.global_rule import GlobalRule


@dataclass(frozen=True)
class Candidate:
    """A setting to try: layer of the global cut, its rule for each modality, and FastAV's P.

    `origin` says how the rule was found: its family and the threshold on the mass.
    """

    layer: int
    rule: dict[str, str]
    drop_ratio: float
    origin: str

    def is_stricter(self, other: "Candidate") -> bool:
        """Whether it drops at least as much as another of the same rule in every layer."""
        mine, its = (self.layer, -self.drop_ratio), (other.layer, -other.drop_ratio)
        same = self.rule == other.rule and mine != its
        return same and self.layer <= other.layer and self.drop_ratio >= other.drop_ratio

    def fields(self) -> dict[str, Any]:
        """Its fields of FastAVConfig."""
        return {
            "global_layer": self.layer,
            "global_rule": dict(self.rule),
            "fine_drop_ratio": self.drop_ratio,
        }


def cut_layers(
    plan: CalibrationPlan, profile: RolloutProfile, lowest: int, num_layers: int
) -> list[int]:
    """Layers to try the global cut at, ascending, from `lowest` on.

    Those asked for; else 3/8 to 6/8 of the depth, and the one from which on the profile is stable.
    """
    last = num_layers - 1
    if plan.layers is not None:
        return sorted(set(plan.layers))
    stable = profile.stable_from(plan.read, plan.stable)
    found = [round(num_layers * share / 8) for share in (3, 4, 5, 6)]
    found += [] if stable is None else [stable]
    return sorted({min(last, max(lowest, layer)) for layer in found})


def make_candidates(
    plan: CalibrationPlan, profile: RolloutProfile, layers: list[int]
) -> list[Candidate]:
    """All rules at these layers with all drop ratios, each setting once."""
    found: dict[tuple[Any, ...], Candidate] = {}
    for layer in layers:
        rules = [("all", dict.fromkeys(profile.modalities, "all"))]
        for threshold in plan.thresholds:
            made = positional_rules(profile, plan.read, layer, threshold)
            rules += [(f"{name} {threshold:g}", rule) for name, rule in made.items()]
        for (origin, rule), ratio in itertools.product(rules, plan.drop_ratios):
            key = (layer, tuple(sorted(rule.items())), ratio)
            found.setdefault(key, Candidate(layer, rule, ratio, origin))
    return list(found.values())


def smallest_prefix(shares: Tensor, threshold: float) -> int:
    """How many first entries of float64 [n] hold at least `threshold` of the sum; at least 1."""
    sums = shares.cumsum(dim=0)
    # Rounding of the last sum must not push the prefix past the end.
    reached = sums >= threshold * sums[-1] * (1 - 1e-12)
    return int(reached.long().argmax()) + 1


def positional_rules(
    profile: RolloutProfile, read: str, layer: int, threshold: float
) -> dict[str, dict[str, str]]:
    """Positional rules for a cut on entering a layer that keep a share of the rollout's mass.

    Each keeps the smallest prefix whose mean share reaches the threshold: "tokens" of every
    modality separately; "below" of all media by position; "frames" of the media with frames, the
    others by tokens; "all of M" leaves modality M alone and cuts the others by tokens. A prefix
    that every prompt lies within is "all". Returns values of `FastAVConfig.global_rule` by name.
    """

    def prefix(name: str, counts: str) -> str:
        shares = profile.mean(name, read, layer)
        return str(GlobalRule(counts).scaled(smallest_prefix(shares, threshold), len(shares)))

    tokens = {name: prefix(name, "tokens") for name in profile.modalities}
    found = {"tokens": tokens, "below": dict.fromkeys(tokens, prefix(POSITION, "below"))}
    if profile.framed:
        found["frames"] = {**tokens, **dict.fromkeys(profile.framed, prefix(FRAME, "frames"))}
    if len(tokens) > 1:
        found |= {f"all of {name}": {**tokens, name: "all"} for name in tokens}
    return found
