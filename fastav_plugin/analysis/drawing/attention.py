"""A picture of attention and its rollout over a prompt's positions, as in FastAV's figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.analysis.attention_profile import AttentionProfile
from fastav_plugin.analysis.drawing.page import WIDTH, Page, plain
from fastav_plugin.display.palette import FAINT, INK, MODALITIES
from fastav_plugin.tokens import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Smallest height that is drawn, as a share of a row's sum.
_FLOOR = 1e-5


def draw_attention(path: str | Path, profile: AttentionProfile, *, title: str) -> None:
    """Draw one line per layer: last row and column sums of attention, and of its rollout.

    All heights are on one logarithmic scale, as shares of a row's or of all columns' sum.
    """
    masks = {name: profile.token_map.mask(Modality[name.upper()])[0].cpu() for name in MODALITIES}
    kinds = {name: mask.numpy() for name, mask in masks.items() if mask.any()}
    columns = [
        ("Attention: last row", profile.last_row),
        ("Attention: column sums", profile.column_sums),
        ("Rollout: last row", profile.rollout_last_row),
        ("Rollout: column sums", profile.rollout_column_sums),
    ]
    left, right, gap, head, foot = 1.22, 0.12, 0.14, 1.12, 0.5
    tall, between = 1.08, 0.2
    page = Page(path, head + len(profile.layers) * (tall + between) - between + foot)
    wide = (WIDTH - left - right - 3 * gap) / 4
    page.heading(
        title,
        "Share of the attention that each prompt position receives, on a logarithmic scale; above, "
        "the sum over each modality.",
    )
    page.key(kinds)
    for line, layer in enumerate(profile.layers):
        top = head + line * (tall + between)
        page.text(0.15, top + tall / 2, f"layer {layer}", weight="bold")
        for place, (name, vectors) in enumerate(columns):
            axes = page.axes(left + place * (wide + gap), top, wide, tall)
            values = vectors[line].numpy().astype(np.float64)
            _panel(axes, values / max(values.sum(), 1e-30), kinds)
            if line == 0:
                axes.set_title(name, size=9, color=INK, pad=4)
            axes.set_yticklabels([] if place else ["0.01 %", "1 %", "100 %"])
            if line == len(profile.layers) - 1:
                axes.set_xlabel("prompt position", size=8, color=FAINT)
            else:
                axes.set_xticklabels([])
    page.save()


def _panel(
    axes: Axes, shares: npt.NDArray[np.float64], kinds: dict[str, npt.NDArray[np.bool_]]
) -> None:
    plain(axes)
    places = np.arange(len(shares))
    heights = np.maximum(shares, _FLOOR)
    for number, (name, mask) in enumerate(kinds.items()):
        colour = MODALITIES[name]
        axes.vlines(places[mask], _FLOOR, heights[mask], color=colour, linewidth=0.9)
        # Read along the top, in the order of the key.
        axes.text(
            (number + 0.5) / len(kinds),
            0.985,
            f"{100 * shares[mask].sum():.0f} %",
            transform=axes.transAxes,
            ha="center",
            va="top",
            size=8,
            color=_darker(colour),
            weight="bold",
        )
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR, 6)
    axes.set_yticks([1e-4, 1e-2, 1])
    axes.minorticks_off()
    axes.set_xlim(-1, len(shares))


def _darker(colour: str) -> Any:
    """The colour as ink: dark enough to be read on white."""
    from matplotlib.colors import to_rgb

    return tuple(0.72 * part for part in to_rgb(colour))
