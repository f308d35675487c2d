"""One prompt under three methods, and its page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.analysis.comparison import Outcome, compare
from fastav_plugin.analysis.explore.page import write_page
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.inputs import Media

QUESTION = "Which colour is the ladder?"
#: What must not become part of the page.
HOSTILE = '</script><img src="https://example.org/x" onerror="document.title=1"> {{data}} \u2028'


@dataclass(frozen=True)
class Explored:
    """A page, what it was made of, and the data that it was said to show."""

    path: Path
    outcomes: list[Outcome]
    data: dict[str, Any]


@pytest.fixture(scope="session")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Explored:
    frames, waveform = read_clip(SAMPLES[1].path)
    processor, model = build_processor(), build_model()
    inputs = prepare_inputs(processor, frames, waveform, QUESTION)
    rule = {"video": "first 16 tokens", "audio": "first 10 tokens"}
    configs = [
        FastAVConfig.for_model(model, method=method, global_rule=rule)
        for method in ("fastav", "divprune", "fastav+divprune")
    ]
    texts = iter(["dense " + HOSTILE, "other", "dense " + HOSTILE, ""])
    outcomes = compare(model, inputs, configs, decode=lambda ids: next(texts), max_new_tokens=2)
    path = tmp_path_factory.mktemp("explored") / "a page.html"
    data = write_page(
        path,
        outcomes,
        question=QUESTION + HOSTILE,
        model="the model",
        processor=processor,
        inputs=inputs,
        media=Media(frames=frames, fps=2.0, waveform=waveform),
    )
    return Explored(path, outcomes, data)
