"""A picture of how many tokens of each modality every layer sees, one panel per method."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.drawing.page import WIDTH, Page, plain
from fastav_plugin.display.palette import FAINT, INK, MODALITIES, PAPER


def draw_layers(path: str | Path, outcomes: Sequence[Outcome], *, title: str) -> None:
    """Draw stacked bars, one per layer, one panel per method; all outcomes are of one prompt."""
    across = min(4, len(outcomes))
    lines = -(-len(outcomes) // across)
    left, right, gap, head, foot, tall, between = 0.62, 0.12, 0.2, 1.3, 0.5, 1.9, 0.62
    page = Page(path, head + lines * (tall + between) - between + foot)
    wide = (WIDTH - left - right - (across - 1) * gap) / across
    page.heading(
        title, "Tokens that each layer sees, stacked in the order of the key; above, their number."
    )
    page.key({name for outcome in outcomes for name in outcome.modality_per_layer})
    most = max(max(outcome.tokens_per_layer) for outcome in outcomes)
    for number, outcome in enumerate(outcomes):
        line, place = divmod(number, across)
        axes = page.axes(left + place * (wide + gap), head + line * (tall + between), wide, tall)
        plain(axes)
        layers = np.arange(len(outcome.tokens_per_layer))
        base = np.zeros(len(layers))
        for name, colour in MODALITIES.items():
            if name in outcome.modality_per_layer:
                counts = np.asarray(outcome.modality_per_layer[name], np.float64)
                axes.bar(layers, counts, bottom=base, width=0.82, color=colour)
                base += counts
        for layer in _labelled(outcome.tokens_per_layer):
            axes.annotate(
                f"{outcome.tokens_per_layer[layer]:,}",
                (layer, base[layer]),
                xytext=(0, 2.5),
                textcoords="offset points",
                ha="center",
                size=8,
                color=INK,
                bbox={"facecolor": PAPER, "linewidth": 0, "pad": 0.4},
            )
        axes.set_ylim(0, 1.12 * most)
        axes.locator_params(axis="y", nbins=4)
        axes.set_xlim(-0.6, len(layers) - 0.4)
        step = -(-len(layers) // 8)
        axes.set_xticks(layers[::step])
        if place:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("tokens", size=8.5, color=FAINT)
        if number + across >= len(outcomes):
            axes.set_xlabel("layer", size=8.5, color=FAINT)
        share = f"{100 * outcome.flops_ratio:.1f} % of dense FLOPs"
        axes.set_title(f"{outcome.method}\n{share}", size=9, color=INK, pad=4)
    page.save()


def _labelled(counts: Sequence[int]) -> list[int]:
    """Layers whose count is written: the first, the last, and that of the largest cut."""
    last = len(counts) - 1
    drops = [0, *(before - after for before, after in zip(counts, counts[1:], strict=False))]
    largest = max(range(len(counts)), key=drops.__getitem__)
    # Figures of neighbours would touch.
    apart = max(2, -(-len(counts) // 8))
    chosen = [0]
    if drops[largest] and min(largest, last - largest) >= apart:
        chosen.append(largest)
    return [*chosen, last] if last >= apart and counts[last] != counts[0] else chosen
