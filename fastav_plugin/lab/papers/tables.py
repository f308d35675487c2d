"""The tables: which settings are compared, and at which cost."""

from typing import Any

from fastav_plugin.hooks.base import ENTRANCE
from fastav_plugin.hooks.plannable import LATE_DEPTH
from fastav_plugin.lab.papers.base import Base, ratios, scale_rule
from fastav_plugin.lab.papers.setting import PaperSetting, PaperTable
from fastav_plugin.lab.papers.targets import targets

FASTAV, DIVPRUNE, COMPOSED = "fastav", "divprune", "fastav+divprune"
NARROW, WIDE = "middle cut", "middle cut, wider"
SEEDS = (0, 1, 2)
DROPS = (0.0, 0.1, 0.2, 0.3, 0.4)
KEEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ALPHAS = (0.3, 0.5, 0.7)
#: How much more the wider rule of the tables of global rules keeps.
WIDER = 4
LATE = {"name": "late_removal", "depth": LATE_DEPTH}


def suite(base: Base) -> tuple[list[PaperSetting], list[PaperTable]]:
    """All settings, what others are compared with first, and the tables they stand in."""
    fixed = [
        PaperSetting(FASTAV, lambda _: base.fastav()),
        PaperSetting(DIVPRUNE, lambda _: [base.divprune()]),
        PaperSetting(COMPOSED, lambda _: [base.divprune(), *base.fastav()]),
    ]
    parts = [
        _methods(base, FASTAV),
        _methods(base, COMPOSED),
        _rules(base, NARROW, 1),
        _rules(base, WIDE, WIDER),
        _alphas(base),
        _drops(base),
        _layers(base),
        _keeps(base),
        _removals(base),
        targets(base),
    ]
    settings = [*fixed, *(setting for own, _ in parts for setting in own)]
    return settings, [table for _, table in parts]


Part = tuple[list[PaperSetting], PaperTable]


def _methods(base: Base, like: str) -> Part:
    """Each method at the average tokens of FastAV, or of its composition with DivPrune."""

    def one(label: str, hook: str | None = None, **others: Any) -> tuple[str, PaperSetting]:
        name = hook or label
        made = PaperSetting(
            f"{label} at the cost of {like}",
            lambda r: [ratios(name, r, **others)],
            like,
            control=name == "random",
        )
        return label, made

    def other(label: str, make: Any, *values: float) -> tuple[str, PaperSetting]:
        setting = PaperSetting(f"{label} at the cost of {like}", make, like, values or (0.005, 1.0))
        return label, setting

    found = [
        one("divprune", "div_prune"),
        other("divprune, then fine cuts", lambda r: [base.divprune(r), base.fine()]),
        one("fastv"),
        other("vtw", lambda k: [{"name": "vtw", "layer": int(k)}], *range(1, base.layers)),
        one("pyramid_drop"),
        other(
            "seats",
            lambda r: [
                {"name": name, "keep_ratio": r} for name in ("seats_entrance", "seats_stages")
            ],
        ),
        *(one(f"random, seed {s}", "random", layer=ENTRANCE, seed=s) for s in SEEDS),
        one("uniform", layer=ENTRANCE),
        other(
            f"random cut at layer {base.cut}, then fine cuts",
            lambda r: [ratios("random", r, layer=base.cut), base.fine()],
        ),
    ]
    rows = [(FASTAV, FASTAV)]
    if like == COMPOSED:
        # So few tokens are out of reach for a cut in the middle.
        del found[-1]
        rows = [(COMPOSED, COMPOSED)]
        found.insert(
            0, other("fastav, cut at layer 1", lambda r: base.fastav(1, rule=base.first(r)))
        )
    rows += [(label, setting.name) for label, setting in found]
    return [setting for _, setting in found], PaperTable(
        f"methods-{like}",
        f"Methods at the average tokens of {like}",
        "One ratio of each method is solved so that an average layer sees as many tokens. Random "
        "and uniform tokens are taken before layer 0.",
        rows,
    )


def _rules(base: Base, like: str, factor: int) -> Part:
    """FastAV's global cut at the middle layer with other rules than its positional one."""
    layer = base.layers // 2
    rule = scale_rule(base.rules, factor)

    def one(label: str, hook: str, **others: Any) -> tuple[str, PaperSetting]:
        return label, PaperSetting(
            f"{label}, as {like}",
            lambda r: [ratios(hook, r, layer=layer, **others), base.fine(layer)],
            like,
            control=hook == "random",
        )

    adaptive = PaperSetting(
        f"adaptive, as {like}",
        lambda mass: [{"name": "adaptive", "mass": mass, "layer": layer}, base.fine(layer)],
        like,
        (0.01, 1.0),
        measured=True,
    )
    found = [
        *(one(f"random, seed {seed}", "random", seed=seed) for seed in SEEDS),
        one("uniform", "uniform"),
        one("low-attentive", "low_attentive"),
        one("rollout of this prompt", "rollout_guided"),
        one("rollout, column sums", "rollout_guided", by="column_sums"),
        ("adaptive: a share of the rollout", adaptive),
    ]
    positional = PaperSetting(like, lambda _: base.fastav(layer, rule=rule))
    rows = [("positional (FastAV)", like), *((label, s.name) for label, s in found)]
    said = ", ".join(f"{kind} {words}" for kind, words in rule.items() if kind != "image")
    return [positional, *(s for _, s in found)], PaperTable(
        "rules" if factor == 1 else "rules-wider",
        f"Rules of the global cut at layer {layer} (FastAV's Table 2): {said}",
        "Fine cuts as usual; each rule keeps as many tokens as the positional one. The adaptive "
        "rule keeps that many on average over prompts that are not reported on.",
        rows,
    )


def _alphas(base: Base) -> Part:
    layer = base.layers // 2
    settings = [
        PaperSetting(
            f"alpha {alpha}",
            lambda r, alpha=alpha: [  # type: ignore[misc]
                ratios("rollout_guided", r, layer=layer, alpha=alpha),
                base.fine(layer),
            ],
            WIDE,
        )
        for alpha in ALPHAS
    ]
    return settings, PaperTable(
        "alpha",
        "Weight of attention in the rollout",
        f"The rule that follows the prompt's own rollout, at layer {layer} and the wider cost.",
        [(setting.name, setting.name) for setting in settings],
    )


def _drops(base: Base) -> Part:
    """FastAV's Table 4, with its global rule and without one."""
    layer = base.layers // 2
    settings, rows = [], []
    for drop in DROPS:
        own = PaperSetting(f"P {drop}", lambda _, drop=drop: base.fastav(drop=drop))  # type: ignore[misc]
        fine = PaperSetting(
            f"P {drop}, fine cuts alone",
            lambda _, drop=drop: [base.fine(layer, drop)],  # type: ignore[misc]
        )
        settings += [own, fine]
        rows += [(f"P = {100 * drop:.0f} %", own.name)]
        rows += [(f"P = {100 * drop:.0f} %, fine cuts alone from layer {layer + 1}", fine.name)]
    return settings, PaperTable(
        "drop-ratio",
        "Share dropped by each fine cut (FastAV's Table 4)",
        "",
        sorted(rows, key=_alone),
    )


def _alone(row: tuple[str, str]) -> bool:
    return "alone" in row[0]


def _layers(base: Base) -> Part:
    settings = [
        PaperSetting(f"cut at layer {layer}", lambda _, layer=layer: base.fastav(layer))  # type: ignore[misc]
        for layer in range(1, base.layers)
    ]
    return settings, PaperTable(
        "global-layer",
        "Layer of the global cut (FastAV's Figure 4)",
        "The rule and P are the model's own.",
        [(setting.name, setting.name) for setting in settings],
    )


def _keeps(base: Base) -> Part:
    settings = [
        PaperSetting(f"divprune {keep}", lambda _, keep=keep: [base.divprune(keep)])  # type: ignore[misc]
        for keep in KEEPS
    ]
    return settings, PaperTable(
        "keep-ratio",
        "DivPrune's keep ratio",
        "The same share of the video and of the audio.",
        [(f"keep {100 * k:.0f} %", s.name) for k, s in zip(KEEPS, settings, strict=True)],
    )


def _removals(base: Base) -> Part:
    settings = [
        PaperSetting("late removal", lambda _: [LATE]),
        PaperSetting(f"{FASTAV} + late removal", lambda _: [*base.fastav(), LATE]),
        PaperSetting(f"{DIVPRUNE} + late removal", lambda _: [base.divprune(), LATE]),
        PaperSetting(
            f"{COMPOSED} + late removal", lambda _: [base.divprune(), *base.fastav(), LATE]
        ),
    ]
    for layer in range(base.layers // 2, base.layers):
        name = f"no media from layer {layer} on"
        settings.append(PaperSetting(name, lambda _, k=layer: [{"name": "vtw", "layer": k}]))  # type: ignore[misc]
    rows = [(setting.name, setting.name) for setting in settings]
    before = [(name, name) for name in (FASTAV, DIVPRUNE, COMPOSED)]
    return settings, PaperTable(
        "late-removal",
        "All media tokens dropped late",
        "Late removal is at 0.82 of the depth; the last lines drop everything from one layer on "
        "and nothing before it (VTW).",
        [*before, *rows],
    )
