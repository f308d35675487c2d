"""A little of a long file: its memory, and the page that says what was measured."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fastav_plugin.lab.bench import long_files
from fastav_plugin.lab.bench.long_files import make_film, make_scene, make_sound
from fastav_plugin.lab.bench.long_media import CASES, measure_apart, table_line
from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.sound import read_sound

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "deploy/benchmarks/results/long-media.json"

needs_procfs = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="reads Linux's high-water mark"
)
#: One container, and the others behind the marker `slow`.
FILMS = [
    pytest.param(ending, marks=() if ending == "mp4" else pytest.mark.slow)
    for ending in long_files.FILMS
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of small pictures in each container."""
    folder = tmp_path_factory.mktemp("films")
    make_scene(folder / "scene.mp4", width=480, height=272)
    for ending in long_files.FILMS:
        make_film(folder / f"film.{ending}", folder / "scene.mp4", 120)
    return folder


@pytest.mark.parametrize("ending", long_files.FILMS)
def test_a_film_repeats_its_scene(films: Path, ending: str) -> None:
    clip = ClipFile(films / f"film.{ending}")
    assert clip.rate == pytest.approx(long_files.RATE, rel=1e-3)
    assert clip.picture_seconds == pytest.approx(120, abs=0.1)
    assert clip.sound_seconds == pytest.approx(120, abs=0.1)
    early, late = (next(clip.show([time])) for time in (2.5, 117.5))
    assert np.array_equal(early, late)


@pytest.mark.parametrize("ending", long_files.SOUNDS)
def test_a_sound_lasts_as_long_as_asked(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"sound.{ending}"
    make_sound(path, 60)
    assert ClipFile(path).seconds == pytest.approx(60, abs=0.5)
    assert np.abs(read_sound(path, [(50.0, 51.0)])[0]).max() > 0.2


@needs_procfs
@pytest.mark.parametrize("ending", FILMS)
def test_memory_of_a_film_is_that_of_the_frames_asked_for(films: Path, ending: str) -> None:
    path = films / f"film.{ending}"
    found = measure_apart("frames", path)
    assert found["held_bytes"] == 8 * 480 * 272 * 3 == read_video(path, max_frames=8).frames.nbytes
    # The 240 frames of two in each second take 94 MB; decoders and two minutes of sound take some.
    assert found["peak_bytes"] < 60e6


@needs_procfs
def test_memory_of_a_sound_is_that_of_the_stretch_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp3"
    make_sound(path, 1860)
    found = measure_apart("stretch", path)
    assert found["held_bytes"] == 30 * 16_000 * 4
    assert found["peak_bytes"] < 40e6  # all of it takes 119 MB


def test_the_page_says_what_was_measured() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert {entry["case"] for entry in found["cases"]} == set(CASES)
    text = (ROOT / "fastav_plugin/media/README.md").read_text(encoding="utf-8")
    assert f"`{RESULTS.relative_to(ROOT)}`" in text
    shown = [line for line in text.splitlines() if line.startswith("| ") and " s | " in line]
    assert shown == [table_line(entry) for entry in found["cases"]]
    (prompt,) = [
        entry for entry in found["cases"] if (entry["case"], entry["ending"]) == ("prompt", "mp4")
    ]
    assert prompt["peak_bytes"] < 300e6
