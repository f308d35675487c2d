"""Tables of methods at equal tokens in an average layer; registered methods join by themselves."""

import inspect
from collections.abc import Callable
from typing import Any

from fastav_plugin.analysis import BUDGETS
from fastav_plugin.config import FastAVConfig
from fastav_plugin.global_rule import GlobalRule
from fastav_plugin.hooks.base import HOOKS
from fastav_plugin.hooks.plannable import LATE_DEPTH, PlannableHook, layer_at_depth
from fastav_plugin.hooks.registry import METHODS
from fastav_plugin.lab.arenas.setting import Spec, Table
from fastav_plugin.tokens import Modality, TokenMap

#: Depths after which the fine cuts begin.
STARTS = (0.5, 0.6, 0.7)
#: What single cuts keep.
TENTH = 0.1
LATE = {"name": "late_removal", "depth": LATE_DEPTH}

#: What is in the tables under another name: the control, and methods that are equal to others here.
_ELSEWHERE = ("none", "random", "fine_pruning", "late_removal")


def methods(budget: float, layers: int, prompt: TokenMap) -> Table:
    """Every registered method at one share of dense's average tokens."""
    specs = [spec for name in sorted(METHODS) for spec in _method(name, budget, layers, prompt)]
    for depth in STARTS[1:]:
        layer = layer_at_depth(depth, layers)
        specs.append(
            Spec(
                f"fine cuts from layer {layer + 1}",
                lambda keep, layer=layer: FastAVConfig(hooks=[fine_cuts(layer, _drop(keep))]),  # type: ignore[misc]
                budget,
            )
        )
    specs += [_composed(budget), *_cut_once(budget, layers)]
    return Table(
        f"methods-{round(100 * budget)}",
        f"Methods at {100 * budget:.0f} % of dense's tokens in an average layer",
        specs,
    )


def late_joined(budget: float) -> Table:
    """What has a keep ratio or drops by fine cuts, and no media in the last layers."""
    specs = []
    for name in sorted(METHODS):
        make = _free(name)
        if make is not None and name not in _ELSEWHERE and not _empties(name):
            method = f"{name}+late_removal"
            specs.append(Spec(method, lambda r, make=make, m=method: make(r, m), budget))  # type: ignore[misc]
    specs.append(_composed(budget, LATE))
    return Table(
        f"late-joined-{round(100 * budget)}",
        f"Methods joined with late removal at {100 * budget:.0f} % of dense's tokens",
        specs,
    )


def late_cuts(layers: int) -> Table:
    """Cuts by attention from the middle on and no media in the last layers, at each budget."""
    specs = []
    for budget in BUDGETS[:2]:
        share = f"{100 * budget:.0f} %"
        for depth in STARTS:
            layer = layer_at_depth(depth, layers)
            specs.append(
                Spec(
                    f"fine cuts from layer {layer + 1}, {share}",
                    lambda keep, layer=layer: FastAVConfig(  # type: ignore[misc]
                        hooks=[fine_cuts(layer, _drop(keep)), LATE]
                    ),
                    budget,
                )
            )
        for neighbours in (0, 2):
            cut = {"name": "low_attentive", "layer": layers // 2, "neighbours": neighbours}
            specs.append(
                Spec(
                    f"one cut at layer {layers // 2}, neighbours {neighbours}, {share}",
                    lambda ratio, cut=cut: FastAVConfig(  # type: ignore[misc]
                        hooks=[{**cut, "visual_keep_ratio": ratio, "audio_keep_ratio": ratio}, LATE]
                    ),
                    budget,
                )
            )
    return Table("late-cuts", "Cuts by attention, then no media in the last layers", specs)


def _method(name: str, budget: float, layers: int, prompt: TokenMap) -> list[Spec]:
    """A registered method with the parameter that decides its cost; [] if it is elsewhere."""
    if name in _ELSEWHERE:
        return []
    make = _free(name)
    if make is not None:
        return [Spec(name, lambda r: make(r, name), budget)]
    if name == "global_pruning":
        return [Spec("first tokens", lambda r: _first(r, layers, prompt), budget)]
    if name == "adaptive":
        return [
            Spec(
                name,
                lambda mass: FastAVConfig(hooks=[{"name": name, "mass": mass}]),
                budget,
                (0.01, 1.0),
                measured=True,
            )
        ]
    if "global_layer" in _fields(name):
        return [
            Spec(
                name,
                lambda layer: FastAVConfig(method=name, global_layer=int(layer)),
                budget,
                range(1, layers),
            )
        ]
    return [Spec(name, lambda _: FastAVConfig(method=name), budget, (0.0, 0.0, 0.0))]


def _free(name: str) -> Callable[[float, str], FastAVConfig] | None:
    """How a ratio makes a config with a method's name; None where no ratio decides the cost."""
    fields = _fields(name)
    if "visual_keep_ratio" in fields:
        return lambda ratio, method: FastAVConfig(
            method=method, visual_keep_ratio=ratio, audio_keep_ratio=ratio, global_rule="all"
        )
    if "fine_drop_ratio" in fields:
        return lambda keep, method: FastAVConfig(
            method=method, fine_drop_ratio=_drop(keep), global_rule="all"
        )
    return None


def _fields(name: str) -> set[str]:
    """Fields of a config that some hook of a method takes."""
    hooks = [HOOKS[part] for part in METHODS[name]]
    return {
        field
        for hook in hooks
        if issubclass(hook, PlannableHook)
        for field in hook.config_fields.values()
    }


def _empties(name: str) -> bool:
    """Whether a method drops all media of its own."""
    return any(HOOKS[part].may_empty for part in METHODS[name])


def _drop(keep: float) -> float:
    return min(1 - keep, 0.99)


def fine_cuts(layer: int, drop: float, **others: Any) -> dict[str, Any]:
    """The data of FastAV's fine cuts, on entering each layer after this one."""
    return {"name": "fine_pruning", "drop_ratio": drop, "after_layer": layer, **others}


def _composed(budget: float, *after: dict[str, Any]) -> Spec:
    """DivPrune at a free ratio, then gentle fine cuts."""

    def make(ratio: float) -> FastAVConfig:
        first = {"name": "div_prune", "visual_keep_ratio": ratio, "audio_keep_ratio": ratio}
        return FastAVConfig(hooks=[first, {"name": "fine_pruning", "drop_ratio": 0.1}, *after])

    late = " + late_removal" if after else ""
    return Spec(f"divprune, then fine cuts of 10 %{late}", make, budget)


def _cut_once(budget: float, layers: int) -> list[Spec]:
    """One cut by attention at the middle layer with neighbours, alone and after DivPrune."""
    if "neighbours" not in inspect.signature(HOOKS["low_attentive"]).parameters:
        return []

    def cut(ratio: float) -> dict[str, Any]:
        shares = {"visual_keep_ratio": ratio, "audio_keep_ratio": ratio}
        return {"name": "low_attentive", "layer": layers // 2, "neighbours": 2, **shares}

    def after(ratio: float) -> FastAVConfig:
        first = {"name": "div_prune", "visual_keep_ratio": ratio, "audio_keep_ratio": ratio}
        return FastAVConfig(hooks=[first, cut(TENTH)])

    alone = Spec("low_attentive, neighbours 2", lambda r: FastAVConfig(hooks=[cut(r)]), budget)
    return [alone, Spec("divprune, then one cut to a tenth", after, budget)]


def _first(share: float, layers: int, prompt: TokenMap) -> FastAVConfig:
    """The global cut with the rule that keeps the first tokens of each modality."""
    kinds = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
    counts = {kind.name.lower(): int(prompt.mask(kind).sum()) for kind in kinds}
    rule = {
        name: str(GlobalRule("tokens", count).times(share))
        for name, count in counts.items()
        if count
    }
    hook = {"name": "global_pruning", "rule": rule, "layer": layers // 2}
    return FastAVConfig(hooks=[hook])
