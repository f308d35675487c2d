"""A picture of attention and its rollout over a prompt's positions, as in FastAV's figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fastav_plugin.analysis.attention_profile import AttentionProfile
from fastav_plugin.analysis.drawing.page import WIDTH, Page, plain
from fastav_plugin.display.palette import FAINT, INK, MODALITIES
from fastav_plugin.tokens import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Smallest height that is drawn, as a share of a row's sum.
_FLOOR = 1e-5
#: What is drawn of each layer: names in AttentionProfile, and titles.
_ROWS = {
    "last_row": "Attention: last row",
    "column_sums": "Attention: column sums",
    "rollout_last_row": "Rollout: last row",
    "rollout_column_sums": "Rollout: column sums",
}


def modality_shares(profile: AttentionProfile) -> dict[str, list[dict[str, float]]]:
    """The share of each modality in each layer of a profile, by the kind of row."""
    kinds = _kinds(profile)
    rows = {name: getattr(profile, name) for name in _ROWS}
    return {
        name: [
            {kind: float(_shares(own)[mask].sum()) for kind, mask in kinds.items()} for own in of
        ]
        for name, of in rows.items()
    }


def _kinds(profile: AttentionProfile) -> dict[str, npt.NDArray[np.bool_]]:
    masks = {name: profile.token_map.mask(Modality[name.upper()])[0].cpu() for name in MODALITIES}
    return {name: mask.numpy() for name, mask in masks.items() if mask.any()}


def _shares(row: Tensor) -> npt.NDArray[np.float64]:
    values = row.numpy().astype(np.float64)
    return np.asarray(values / max(float(values.sum()), 1e-30))


def draw_attention(path: str | Path, profile: AttentionProfile, *, title: str) -> None:
    """Draw one line per layer: last row and column sums of attention, and of its rollout.

    All heights are on one logarithmic scale, as shares of a row's or of all columns' sum.
    """
    kinds = _kinds(profile)
    columns = [(title, getattr(profile, name)) for name, title in _ROWS.items()]
    left, right, gap, head, foot = 1.5, 0.12, 0.14, 1.36, 0.5
    tall, between, bar = 0.98, 0.42, 0.06
    most = max(float(_shares(row).max()) for _, own in columns for row in own)
    page = Page(path, head + len(profile.layers) * (tall + between) - between + foot)
    wide = (WIDTH - left - right - 3 * gap) / 4
    page.heading(
        title,
        "Share of the attention that each prompt position receives, on a logarithmic scale; above "
        "it, the shares of the modalities.",
    )
    page.key(kinds)
    for line, layer in enumerate(profile.layers):
        top = head + line * (tall + between)
        page.text(0.15, top + tall / 2, f"layer {layer}", weight="bold")
        for place, (name, vectors) in enumerate(columns):
            axes = page.axes(left + place * (wide + gap), top, wide, tall)
            shares = _shares(vectors[line])
            _panel(axes, shares, kinds, most)
            above = page.axes(left + place * (wide + gap), top - bar - 0.03, wide, bar)
            _sums(above, shares, kinds)
            if line == 0:
                axes.set_title(name, size=9, color=INK, pad=24)
            if place:
                axes.set_yticklabels([])
            else:
                axes.set_ylabel("share", size=8, color=FAINT)
            if line == len(profile.layers) - 1:
                axes.set_xlabel("prompt position", size=8, color=FAINT)
            else:
                axes.set_xticklabels([])
    page.save()


def _panel(
    axes: Axes,
    shares: npt.NDArray[np.float64],
    kinds: dict[str, npt.NDArray[np.bool_]],
    most: float,
) -> None:
    plain(axes)
    places = np.arange(len(shares))
    heights = np.maximum(shares, _FLOOR)
    for name, mask in kinds.items():
        axes.vlines(places[mask], _FLOOR, heights[mask], color=MODALITIES[name], linewidth=0.9)
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR, 1.4 * most)
    ticks = {1e-4: "0.01 %", 1e-3: "0.1 %", 1e-2: "1 %", 1e-1: "10 %"}
    axes.set_yticks(
        [tick for tick in ticks if tick < most],
        labels=[label for tick, label in ticks.items() if tick < most],
    )
    axes.minorticks_off()
    axes.set_xlim(-1, len(shares))


def _sums(
    axes: Axes, shares: npt.NDArray[np.float64], kinds: dict[str, npt.NDArray[np.bool_]]
) -> None:
    """One bar of the modalities' shares, each in per cent above it, in the order of the key."""
    base = 0.0
    for number, (name, mask) in enumerate(kinds.items()):
        share = float(shares[mask].sum())
        axes.barh([0], [share], left=base, height=1, color=MODALITIES[name])
        axes.text(
            (number + 0.5) / len(kinds),
            1.3,
            f"{100 * share:.0f} %",
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            size=8,
            color=_darker(MODALITIES[name]),
            weight="bold",
        )
        base += share
    axes.set_xlim(0, 1)
    axes.axis("off")


def _darker(colour: str) -> Any:
    """The colour as ink: dark enough to be read on white."""
    from matplotlib.colors import to_rgb

    return tuple(0.72 * part for part in to_rgb(colour))
