"""A picture of how many tokens of each modality every layer sees, one panel per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastav_plugin.analysis.drawing.page import (
    FAINT,
    INK,
    MODALITIES,
    WIDTH,
    Page,
    check_drawing,
    plain,
)


@dataclass(frozen=True)
class LayerCounts:
    """What each layer sees under one method.

    Attributes:
        name: of the method.
        tokens: per layer.
        by_modality: per layer, by name; the rest of `tokens` is text.
        flops_ratio: prefill FLOPs as a fraction of dense.
    """

    name: str
    tokens: Sequence[float]
    by_modality: Mapping[str, Sequence[float]]
    flops_ratio: float


def draw_layers(path: str | Path, methods: Sequence[LayerCounts], *, title: str) -> None:
    """Draw stacked bars, one per layer, one panel per method.

    Args:
        path: PNG or SVG to write.
        methods: what to draw, all of one prompt.
        title: first line.

    Raises:
        UnsupportedError: matplotlib is not installed.
        ConfigError: neither PNG nor SVG.
    """
    check_drawing(path)
    across = min(4, len(methods))
    lines = -(-len(methods) // across)
    left, right, gap, head, foot, tall, between = 0.62, 0.12, 0.2, 1.3, 0.5, 1.9, 0.62
    page = Page(WIDTH, head + lines * (tall + between) - between + foot)
    wide = (WIDTH - left - right - (across - 1) * gap) / across
    page.heading(title, "Tokens that each layer sees, stacked in the order of the key.")
    stacked = [(method, _stack(method)) for method in methods]
    present = {name for _, stack in stacked for name in stack}
    page.key(0.15, 0.78, {name: c for name, c in MODALITIES.items() if name in present})
    most = max(max(method.tokens) for method in methods)
    for number, (method, stack) in enumerate(stacked):
        line, place = divmod(number, across)
        axes = page.axes(left + place * (wide + gap), head + line * (tall + between), wide, tall)
        plain(axes)
        layers = np.arange(len(method.tokens))
        base = np.zeros(len(layers))
        for name, counts in stack.items():
            axes.bar(layers, counts, bottom=base, width=0.82, color=MODALITIES[name])
            base += counts
        axes.set_ylim(0, 1.05 * most)
        axes.set_xlim(-0.6, len(layers) - 0.4)
        step = -(-len(layers) // 8)
        axes.set_xticks(layers[::step])
        if place:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("tokens", size=8.5, color=FAINT)
        if number + across >= len(methods):
            axes.set_xlabel("layer", size=8.5, color=FAINT)
        share = f"{100 * method.flops_ratio:.1f} % FLOPs"
        axes.set_title(f"{method.name}\n{share}", size=9, color=INK, pad=4)
    page.save(path)


def _stack(method: LayerCounts) -> dict[str, npt.NDArray[np.float64]]:
    """Counts [L] of each modality of the prompt, text lowest."""
    media = {
        name: np.asarray(counts, np.float64)
        for name, counts in method.by_modality.items()
        if name in MODALITIES and name != "text"
    }
    text = np.asarray(method.tokens, np.float64) - sum(media.values(), np.zeros(()))
    found = {"text": text, **media}
    return {name: found[name] for name in MODALITIES if name in found and found[name].any()}
