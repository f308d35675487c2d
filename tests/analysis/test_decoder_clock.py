"""The clock holds the decoder with the pruner's work in it, and not the encoders."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import override

from fastav_plugin import FastAVConfig, LayerHookList
from fastav_plugin.analysis.decoder_clock import DecoderClock
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs

#: Seconds that something takes longer.
SLOW = 0.4


class SlowHook(LayerHook):
    """Keeps all before the first layer, slowly."""

    name = "slow_hook"

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset([ENTRANCE])

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        time.sleep(SLOW)
        return None


def prompt() -> Any:
    frames = np.zeros((4, 112, 112, 3), np.uint8)
    waveform = np.zeros(2 * 16_000, np.float32)
    return prepare_inputs(build_processor(), frames, waveform, "Which sound is heard?")


def test_what_is_timed() -> None:
    model: Any = build_model()
    inputs = prompt()
    config = FastAVConfig(hooks=LayerHookList([SlowHook()]), min_media_tokens=1)
    # Where the encoder is depends on the release.
    (encoder,) = [module for name, module in model.named_modules() if name.endswith("visual")]
    slow_encoder = encoder.register_forward_pre_hook(lambda *given: time.sleep(SLOW))
    decoder = model.get_decoder()
    with DecoderClock(model) as clock:
        assert clock.seconds is None
        run = run_once(model, inputs, config, max_new_tokens=3)
        first = clock.seconds
    slow_encoder.remove()
    assert first is not None
    assert SLOW < first < run.seconds - SLOW
    assert not decoder._forward_hooks and not decoder._forward_pre_hooks
    run_once(model, inputs)
    assert clock.seconds == first


def test_a_second_forward_is_not_counted() -> None:
    model: Any = build_model()
    inputs = prompt()
    calls: list[float | None] = []
    with DecoderClock(model) as clock:
        handle = model.register_forward_hook(lambda *given: calls.append(clock.seconds))
        run_once(model, inputs, max_new_tokens=3)
        handle.remove()
    assert len(calls) > 1
    assert len(set(calls)) == 1
