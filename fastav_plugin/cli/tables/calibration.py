"""What a calibration found, as tables."""

from typing import Any

from fastav_plugin.calibration.rollout_profile import SHARES
from fastav_plugin.calibration_file import Calibration, read_tensors
from fastav_plugin.cli.console import note
from fastav_plugin.cli.tables.layout import print_table
from fastav_plugin.display.units import percent

#: Settings shown: the cheapest that pass, and the nearest that do not.
_SHOWN = 12


def print_calibration(calibration: Calibration) -> None:
    """The rollout by layer, the rules it suggests, and the settings that were tried."""
    facts = calibration.facts
    _print_layers(calibration)
    profile = facts["profile"]
    rows = [
        [threshold, name, _told(rule)]
        for threshold, rules in profile["rules"].items()
        for name, rule in rules.items()
    ]
    title = f"\nRules for a cut on entering layer {profile['layer']}"
    if rows:
        print_table(["mass kept", "family", "rule"], rows, title=title, left=(1, 2), prose=2)
    _print_candidates(facts)
    samples = facts["samples"]
    stable = profile["stable_from"]
    found = "does not become stable" if stable is None else f"is stable from layer {stable} on"
    note(
        f"Samples: {samples['rule']} made the rules, {samples['fidelity']} "
        f"{'others' if samples['disjoint'] else 'of the same (too few to split)'} measured them. "
        f"The profile {found}."
    )
    _note_check(samples, facts["check"])
    fields = ", ".join(f"{name}={value!r}" for name, value in calibration.settings.items())
    note(f"Chosen: {fields}")
    note(f"Use it: FastAVConfig(calibration={calibration.path!r}), or --calibration.")


def _note_check(samples: dict[str, Any], check: dict[str, Any] | None) -> None:
    if check is None:
        note("Too few media for a check on others: the KL above is that of the choice itself.")
    else:
        note(
            f"Checked on {check['prompts']} samples apart from those it was chosen on: mean KL "
            f"{check['kl']:.4f} ({check['kl_low']:.4f}..{check['kl_high']:.4f}), agreement "
            f"{percent(check['agreement'])}, {percent(check['flops_ratio'])} of the dense FLOPs."
        )
        if check["rejected"]:
            note(
                f"{check['rejected']} cheaper ones, within the limit before, failed there: being "
                "the first of several to pass, the chosen one may fare worse on yet other samples."
            )
    count = samples["check"] or samples["fidelity"]
    if count <= 3:
        note("So few samples say next to nothing about other prompts: take more.")
        return
    note(
        f"What happens to fewer than about {percent(3 / count)} of prompts may not be among them, "
        "and KL has no upper bound: take more samples to be surer."
    )


def _print_layers(calibration: Calibration) -> None:
    tensors, read = read_tensors(calibration.path), calibration.facts["searched"]["read"]
    modality = tensors[f"profile.{read}.modality"]  # [L - 1, 4]: text, image, video, audio
    top, first = (tensors[f"curve.{read}.{name}"] for name in ("top", "first"))
    shown = [SHARES.index(share) for share in (0.1, 0.5)]
    columns = ["on entering", "text", "image", "video", "audio"]
    columns += ["top 10 %", "top 50 %", "first 10 %", "first 50 %", "change"]
    change = [*(f"{moved:.3f}" for moved in calibration.facts["profile"]["change"]), ""]
    rows = [
        [
            f"layer {layer}",
            *(percent(float(share)) for share in modality[layer - 1]),
            *(percent(float(curve[layer - 1, at])) for curve in (top, first) for at in shown),
            change[layer - 1],
        ]
        for layer in range(1, len(modality) + 1)
    ]
    title = f"Attention rollout ({read}): mass by modality, and by share of the media tokens"
    print_table(columns, rows, title=title)


def _print_candidates(facts: Any) -> None:
    searched = facts["searched"]
    limit = searched["max_kl"] * (1 - searched.get("margin", 0))
    passed = [row for row in facts["candidates"] if row["kl_high"] <= limit]
    passed.sort(key=lambda row: (not row["complete"], row["flops_ratio"]))
    rows = [
        [
            str(row["global_layer"]),
            _told(row["global_rule"]),
            f"{row['fine_drop_ratio']:g}",
            percent(row["flops_ratio"]),
            f"{row['tokens']:.1f}",
            f"{row['kl']:.4f}",
            f"{row['kl_low']:.4f}..{row['kl_high']:.4f}",
            percent(row["agreement"]),
            str(row["prompts"]),
        ]
        for row in passed[:_SHOWN]
    ]
    title = (
        f"\nOf {len(facts['candidates'])} settings, those whose KL's 95 % interval ends at "
        f"{limit:g} or below: measured to the end first, then the cheapest"
    )
    columns = ["layer", "rule", "P", "FLOPs", "tokens", "KL", "95 %", "agreement", "samples"]
    print_table(columns, rows, title=title, left=(1,), prose=1)


def _told(rule: dict[str, str]) -> str:
    return ", ".join(f"{name}: {what}" for name, what in rule.items())
