"""Tables of settings that are given: depths, shares, second questions, presets, upper bounds."""

import inspect
from collections.abc import Sequence
from typing import Any

from fastav_plugin.analysis import BUDGETS
from fastav_plugin.config import FastAVConfig
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.hooks.base import ENTRANCE, HOOKS, VISUAL
from fastav_plugin.hooks.plannable import layer_at_depth
from fastav_plugin.lab.arenas.budgets import LATE, STARTS, TENTH, fine_cuts
from fastav_plugin.lab.arenas.control import Oracle
from fastav_plugin.lab.arenas.setting import Spec, Table
from fastav_plugin.settings.presets import AUDIO, AUDIO_VISUAL, PRESETS, VIDEO
from fastav_plugin.tokens import Modality, TokenMap

DEPTHS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
DROPS = (0.05, 0.1, 0.2, 0.3)
NEIGHBOURS = (1, 2, 4)
#: Key of the table of the quick form, which is in no other run.
QUICK = "quick"


def _fixed(label: str, *hooks: Any) -> Spec:
    return Spec(label, lambda _: FastAVConfig(hooks=list(hooks)))


def removals(layers: int) -> Table:
    """All media dropped, by the layer."""
    specs = {}
    for depth in DEPTHS:
        layer = layer_at_depth(depth, layers)
        specs[layer] = _fixed(f"no media from layer {layer} on", {"name": "vtw", "layer": layer})
    return Table("late-removal", "All media dropped from one layer on", list(specs.values()))


def drops(layers: int) -> Table:
    """FastAV's fine cuts, by P and by where they begin."""
    specs = []
    for depth in STARTS:
        layer = layer_at_depth(depth, layers)
        specs += [
            _fixed(f"P {100 * drop:.0f} % after layer {layer}", fine_cuts(layer, drop))
            for drop in DROPS
        ]
    middle = layers // 2
    if "neighbours" in inspect.signature(HOOKS["fine_pruning"]).parameters:
        hook = fine_cuts(middle, 0.2, neighbours=2)
        specs.append(_fixed(f"P 20 % after layer {middle}, neighbours 2", hook))
    specs += [
        _fixed(
            f"P {100 * drop:.0f} % after layer {middle}, late removal",
            fine_cuts(middle, drop),
            LATE,
        )
        for drop in (0.1, 0.2)
    ]
    return Table("p-by-layer", "FastAV's fine cuts: share dropped, and where they begin", specs)


def single_cuts(layers: int) -> Table:
    """Every ranking that can be made at the middle layer, keeping a tenth."""
    layer, specs = layers // 2, []
    for name, hook in sorted(HOOKS.items()):
        parameters = inspect.signature(hook).parameters
        if name == "random" or not {"layer", "visual_keep_ratio"} <= set(parameters):
            continue
        values = {
            "name": name,
            "visual_keep_ratio": TENTH,
            "audio_keep_ratio": TENTH,
            "layer": layer,
        }
        specs.append(_fixed(name, values))
        if "neighbours" in parameters:
            specs += [
                _fixed(f"{name}, neighbours {count}", {**values, "neighbours": count})
                for count in NEIGHBOURS
            ]
    return Table("one-cut", f"One cut to a tenth of the media at layer {layer}", specs)


def cuts_by_layer(layers: int) -> Table:
    """Where attention begins to find what is asked for, and where media are no longer needed."""
    specs = []
    for layer in dict.fromkeys(layer_at_depth(tenths / 10, layers) for tenths in range(1, 10)):
        ratios = {"visual_keep_ratio": TENTH, "audio_keep_ratio": TENTH}
        hook = {"name": "low_attentive", "layer": layer, **ratios}
        specs.append(_fixed(f"best tenth at layer {layer}", hook))
    return Table("cut-by-layer", "One cut by attention to a tenth, by its layer", specs)


def second_questions(layers: int) -> Table:
    """What the first question's cuts leave for a second one."""
    middle, later = layers // 2, layer_at_depth(0.7, layers)
    half = {"visual_keep_ratio": 0.5, "audio_keep_ratio": 0.5}
    return Table(
        "second-question",
        "A second question on the same media after the first",
        [
            _fixed("late removal", LATE),
            _fixed(f"P 10 % after layer {middle}", fine_cuts(middle, 0.1)),
            _fixed(f"P 20 % after layer {middle}", fine_cuts(middle, 0.2)),
            _fixed(f"P 20 % after layer {later}", fine_cuts(later, 0.2)),
            _fixed("divprune 50 %", {"name": "div_prune", **half}),
            _fixed("uniform 50 % before layer 0", {"name": "uniform", "layer": ENTRANCE, **half}),
        ],
        second=True,
    )


def presets(layers: int, prompt: TokenMap) -> Table:
    """The presets, as a model of these media gets them, and the default."""
    sound, sight = (bool(prompt.mask(*kinds).any()) for kinds in ((Modality.AUDIO,), VISUAL))
    kind = AUDIO_VISUAL if sound and sight else AUDIO if sound else VIDEO
    default = fine_cuts(layer_at_depth(DEFAULTS.depth, layers), DEFAULTS.drop_ratio)
    return Table(
        "presets",
        "The default and the presets",
        [
            _fixed("default", default),
            *(
                Spec(name, lambda _, each=each: FastAVConfig(**each.fields(kind, layers)))  # type: ignore[misc]
                for name, each in PRESETS.items()
            ),
        ],
        second=True,
    )


def quick(layers: int) -> Table:
    """What takes a minute or two and shows whether an arena works."""
    half = {"visual_keep_ratio": 0.5, "audio_keep_ratio": 0.5}
    return Table(
        QUICK,
        "A few settings",
        [
            _fixed(f"P 10 % after layer {layers // 2}", fine_cuts(layers // 2, 0.1)),
            _fixed("late removal", LATE),
            _fixed("divprune 50 %", {"name": "div_prune", **half}),
        ],
    )


def bounds(layers: int) -> Table:
    """What keeps the tokens of the answer, and random others."""

    def before(ratio: float, evidence: Sequence[int] = ()) -> FastAVConfig:
        return FastAVConfig(hooks=[Oracle(ratio, ratio, ENTRANCE, evidence)])

    def middle(ratio: float, evidence: Sequence[int] = ()) -> FastAVConfig:
        return FastAVConfig(hooks=[Oracle(ratio, ratio, layers // 2, evidence)])

    specs = [
        Spec(
            f"answer's tokens kept before layer 0, {100 * budget:.0f} %",
            before,
            budget,
            of_question=lambda ratio, question: before(ratio, question.evidence),
        )
        for budget in BUDGETS
    ]
    specs.append(
        Spec(
            f"answer's tokens kept at layer {layers // 2}, a tenth",
            lambda _: middle(TENTH),
            of_question=lambda _, question: middle(TENTH, question.evidence),
        )
    )
    return Table("upper-bound", "The tokens that hold the answer are kept", specs)
