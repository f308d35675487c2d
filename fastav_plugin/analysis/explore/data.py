"""What the page shows, as JSON data: pictures, sound, and how many layers see each token."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.explore.encoding import envelope, picture_address, spectrum_address
from fastav_plugin.analysis.media_tokens import Picture, positions_of, spread_evenly
from fastav_plugin.display.units import flops, percent, size
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality

#: Pictures on the page; of more, so many are shown, spread evenly.
MOST_PICTURES = 48


def page_data(
    *,
    question: str,
    model: str,
    outcomes: Sequence[Outcome],
    pictures: Sequence[Picture],
    waveform: Waveform | None,
    title: str | None = None,
) -> dict[str, Any]:
    """The data of a page.

    Args:
        question: what was asked.
        model: its name.
        outcomes: dense first, then one per method, all of one prompt and with their reports.
        pictures: of the prompt.
        waveform: float32 [n] at 16 kHz; None without sound.
        title: heading instead of the question.
    """
    dense, *pruned = outcomes
    assert dense.report is not None
    tokens = dense.report.token_map
    shown = spread_evenly(len(pictures), MOST_PICTURES)
    audio = positions_of(tokens, "audio")
    sound = None
    if waveform is not None and len(audio):
        sound = {
            "seconds": round(len(waveform) / SAMPLE_RATE, 3),
            "positions": audio.tolist(),
            "envelope": envelope(waveform, len(audio)),
            "spectrum": spectrum_address(waveform),
        }
    return {
        "title": title or question,
        "question": question,
        "model": model,
        "layers": len(dense.tokens_per_layer),
        "kinds": [
            [Modality(kind).name.lower(), len(list(run))]
            for kind, run in itertools.groupby(tokens.modality[0].tolist())
        ],
        "pictures": [_picture(pictures[index]) for index in shown],
        "pictures_left_out": len(pictures) - len(shown),
        "sound": sound,
        "dense": _outcome(dense, dense),
        "methods": [_outcome(outcome, dense) for outcome in pruned],
    }


def layers_seeing(report: PruningReport) -> list[int]:
    """How many layers see each position of the prompt: all below that number, no other."""
    counts = np.zeros(report.token_map.length, np.int64)
    for layer in range(len(report.positions)):
        kept = report.kept_positions(layer)
        assert (counts[kept] == layer).all(), "a token that was cut came back"
        counts[kept] += 1
    return [int(count) for count in counts]


def _outcome(outcome: Outcome, dense: Outcome) -> dict[str, Any]:
    assert outcome.report is not None
    ratios = [own / max(1, whole) for own, whole in _pairs("macs_per_layer", outcome, dense)]
    held = [own / max(1, whole) for own, whole in _pairs("kv_bytes_per_layer", outcome, dense)]
    return {
        "method": outcome.method,
        "answer": outcome.answer,
        "agrees": outcome.answer == dense.answer,
        "reason": outcome.reason,
        "until": layers_seeing(outcome.report),
        "tokens": outcome.tokens_per_layer,
        "modalities": outcome.modality_per_layer,
        "macs": outcome.macs_per_layer,
        "kv_bytes": outcome.kv_bytes_per_layer,
        # In words, as everywhere else.
        "flops": [flops(macs) for macs in outcome.macs_per_layer],
        "flops_share": [percent(ratio) for ratio in ratios],
        "kv": [size(count) for count in outcome.kv_bytes_per_layer],
        "kv_share": [percent(ratio) for ratio in held],
        "sums": {
            "flops": flops(round(outcome.flops_ratio * dense.macs)),
            "flops_share": percent(outcome.flops_ratio),
            "kv": size(outcome.kv_bytes),
            "kv_share": percent(outcome.kv_bytes / max(1, dense.kv_bytes)),
        },
    }


def _pairs(name: str, outcome: Outcome, dense: Outcome) -> list[tuple[int, int]]:
    return list(zip(getattr(outcome, name), getattr(dense, name), strict=True))


def _picture(picture: Picture) -> dict[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {
        "kind": picture.kind,
        "source": picture_address(picture.pixels),
        "ratio": round(width / height, 4),
        "grid": None if picture.grid is None else list(picture.grid),
        "positions": picture.positions.tolist(),
        "seconds": None if picture.seconds is None else round(picture.seconds, 2),
    }
