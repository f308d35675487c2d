"""Time and memory of reading a little of long media files, each in a process of its own.

A film of 3 minutes and sounds of an hour are made first. Memory is the peak above what the process
held before, with its imports and its model.

Example: python -m fastav_plugin.lab.bench.long_media --case frames --case prompt
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from fastav_plugin.lab.bench.clock import forget_peak_memory, machine, peak_memory
from fastav_plugin.lab.bench.long_files import FILMS, SOUNDS, make_film, make_scene, make_sound
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.inputs import prepare_prompt, read_media
from fastav_plugin.media.sound import read_sound

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """What is read.

    Attributes:
        title: for a table.
        endings: of the files that it is measured on.
        prepare: loads what is needed, a model for instance, and returns what is measured.
    """

    title: str
    endings: tuple[str, ...]
    prepare: Callable[[], Read]


def _picked() -> Read:
    from fastav_plugin.model_overrides.videollama2.media import pick_frames

    def read(path: Path) -> int:
        return sum(frame.nbytes for frame in pick_frames(path, 8))

    return read


def _eight_stretches() -> Read:
    from fastav_plugin.model_overrides.videollama2.media import load_clip_audio

    return load_clip_audio


def _prompt(kind: str) -> Callable[[], Read]:
    """The inputs of `fastav generate --frames 8`, on the bundled model."""

    def prepare() -> Read:
        from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

        model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(MODEL_PATH)
        processor = AutoProcessor.from_pretrained(MODEL_PATH)  # type: ignore[no-untyped-call]

        def read(path: Path) -> Any:
            files: dict[str, Any] = {"video": None, "audio": None, kind: path}
            media = read_media(images=[], **files, max_frames=8, processor=processor)
            return model, prepare_prompt(processor, media, "Which sound is heard?")

        return read

    return prepare


def _load_video() -> Read:
    from transformers.video_utils import load_video

    stock: Any = load_video
    return lambda path: stock(str(path), num_frames=8, backend="pyav")[0]


#: By name.
CASES = {
    "times": Case("its length alone", FILMS, lambda: lambda path: ClipFile(path).seconds),
    "frames": Case("8 frames", FILMS, lambda: lambda path: read_video(path, max_frames=8).frames),
    "beginning": Case(
        "2 frames a second of the first 30 s",
        FILMS,
        lambda: lambda path: read_video(path, 2.0, seconds=30.0).frames,
    ),
    "picked": Case("the 8 frames of VideoLLaMA2, one at a time", FILMS, _picked),
    "prompt": Case("`fastav generate --video film --frames 8`", FILMS, _prompt("video")),
    "load_video": Case("8 frames by transformers' `load_video`", FILMS[:1], _load_video),
    "stretch": Case(
        "30 s from the middle", SOUNDS, lambda: lambda path: read_sound(path, [(1800, 1830)])[0]
    ),
    "stretches": Case("the eight stretches of VideoLLaMA2", SOUNDS, _eight_stretches),
    "sound": Case("`fastav generate --audio sound`", SOUNDS, _prompt("audio")),
}


def measure(name: str, path: Path) -> dict[str, Any]:
    """Read once in this process: seconds, and bytes of the peak and of the array returned."""
    read = CASES[name].prepare()
    read(SAMPLES[0].path)  # imports what it needs
    forget_peak_memory()
    before, start, worked = peak_memory(), time.perf_counter(), time.process_time()
    found = read(path)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    peak = peak_memory()
    return {
        "case": name,
        "ending": path.suffix[1:],
        "seconds": seconds,
        "cpu_seconds": worked,
        "peak_bytes": None if peak is None or before is None else peak - before,
        "held_bytes": found.nbytes if isinstance(found, np.ndarray) else None,
    }


def measure_apart(name: str, path: Path, repeats: int = 1) -> dict[str, Any]:
    """`measure` in processes of their own: the median of the seconds, the highest peak."""
    context = multiprocessing.get_context("forkserver")  # imports once, and is no copy of this one
    context.set_forkserver_preload([read_media.__module__, machine.__module__])
    found = []
    for _ in range(repeats):  # a pool each: one that replaces its processes may wait for ever
        with ProcessPoolExecutor(1, context) as pool:
            found.append(pool.submit(measure, name, path).result())
    found.sort(key=lambda each: each["seconds"])
    peaks = [each["peak_bytes"] for each in found if each["peak_bytes"] is not None]
    return found[len(found) // 2] | {"peak_bytes": max(peaks, default=None)}


def make_files(folder: Path, endings: Sequence[str], minutes: float, hours: float) -> None:
    """Write those films and sounds that are not in the folder."""
    scene = folder / "scene.mp4"
    missing = [ending for ending in endings if not _file(folder, ending).exists()]
    for ending in track(missing, "files", console=Console(stderr=True), transient=True):
        path = _file(folder, ending)
        if ending in SOUNDS:
            make_sound(path, round(3600 * hours))
            continue
        if not scene.exists():
            make_scene(scene)
        make_film(path, scene, round(60 * minutes))


def _file(folder: Path, ending: str) -> Path:
    return folder / f"{'film' if ending in FILMS else 'sound'}.{ending}"


def main(
    case: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(CASES)}. May be repeated. Default: all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the files, about 2 GB. Default: for this run alone.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of the film.")] = 3.0,
    hours: Annotated[float, typer.Option(min=0.01, help="Length of the sound.")] = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
) -> None:
    """Measure time and memory of reading a little of long media files."""
    names = case or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise typer.BadParameter(f"unknown case {unknown[0]!r}; known: {', '.join(CASES)}.")
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        work = [(name, ending) for name in names for ending in CASES[name].endings]
        make_files(folder, list(dict.fromkeys(ending for _, ending in work)), minutes, hours)
        found = []
        for name, ending in track(work, "cases", console=Console(stderr=True), transient=True):
            found.append(measure_apart(name, _file(folder, ending), repeats))
            if not as_json:
                print(table_line(found[-1]), flush=True)
    if as_json:
        settings = {"minutes": minutes, "hours": hours, "repeats": repeats}
        print(json.dumps({"machine": machine(), **settings, "cases": found}, indent=1))


def table_line(entry: dict[str, Any]) -> str:
    """What was measured once, as a line of a table of Markdown."""
    title, ending = CASES[entry["case"]].title, entry["ending"]
    seconds, worked = (f"{entry[name]:.1f} s" for name in ("seconds", "cpu_seconds"))
    peak, held = (
        "" if entry[name] is None else f"{entry[name] / 1e6:.0f} MB"
        for name in ("peak_bytes", "held_bytes")
    )
    return f"| {title} | {ending} | {seconds} | {worked} | {peak} | {held} |"


if __name__ == "__main__":
    typer.run(main)
