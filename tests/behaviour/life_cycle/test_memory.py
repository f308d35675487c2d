"""Peak memory of a prefill: below dense by the keys and values that are never made."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from tests.behaviour.life_cycle.peak_memory import KV, LAYERS, OBSERVE, TOKENS

needs_procfs = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="reads Linux's high-water mark"
)


@functools.cache
def peak(method: str, tokens: int = TOKENS) -> int:
    # Every tensor in pages of its own, which go back at once: what is resident is what is held.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.behaviour.life_cycle.peak_memory",
        method,
        str(tokens),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@needs_procfs
def test_fastav_saves_what_its_later_layers_never_hold() -> None:
    """The peak is where the last full layer ends: half of the layers' keys and values are gone."""
    saved = peak("dense") - peak("fastav")
    assert saved == pytest.approx(KV * LAYERS // 2, rel=0.05)


@needs_procfs
@pytest.mark.slow
def test_divprune_saves_as_long_as_its_distances_are_smaller() -> None:
    assert peak("dense") - peak("divprune") > KV * LAYERS // 2


@needs_procfs
@pytest.mark.slow
def test_a_cache_that_cuts_nothing_costs_nothing() -> None:
    assert peak("none") == pytest.approx(peak("dense"), rel=0.02)


@needs_procfs
@pytest.mark.slow
def test_observing_the_rollout_takes_memory_in_proportion_to_the_prompt() -> None:
    """One n x n matrix of one head would be 64 MiB at 4096 tokens."""
    assert peak(OBSERVE, 4096) < 4.4 * peak(OBSERVE, 1024)
