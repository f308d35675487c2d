"""Clips with their encoder frames in files of a few hundred, made once by several processes."""

import json
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastav_plugin.lab.pretrained.whisper_base import load_encoder_weights
from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE, FrameEncoder
from fastav_plugin.lab.real_audio.shipped import LIST
from fastav_plugin.lab.real_audio.training.clips import make_clip

SHARD = 200
#: Quality at which Ogg Opus takes about 12 kbit/s for one voice.
_OPUS_LEVEL = 0.98
#: What a record says of its shard, which shipped clips have none of.
_OF_THE_SHARD = ("place", "frames", "file")
_ENCODER: list[FrameEncoder] = []


@dataclass(frozen=True)
class Shard:
    """One file of clips.

    Args:
        folder: where the shards are.
        split: "train" or "test".
        index: of the shard in its split.
        clips: how many it holds.
    """

    folder: Path
    split: str
    index: int
    clips: int = SHARD

    @property
    def frames(self) -> Path:
        """float16 [frames of all clips, 512]."""
        return self.folder / f"{self.split}-{self.index:03}.npy"

    @property
    def records(self) -> Path:
        """A line of JSON for each clip; written last, so what has it is complete."""
        return self.frames.with_suffix(".jsonl")


def plan_shards(folder: Path, train: int, test: int) -> list[Shard]:
    """The shards of so many clips, test clips first."""
    found = []
    for split, clips in (("test", test), ("train", train)):
        for index, first in enumerate(range(0, clips, SHARD)):
            found.append(Shard(folder, split, index, min(SHARD, clips - first)))
    return found


def make_shards(shards: list[Shard], weights: Path | None, workers: int = 2) -> None:
    """Make those that are not there yet, with progress on stderr."""
    missing = [shard for shard in shards if not shard.records.exists()]
    if not missing:
        return
    missing[0].folder.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()
    done = 0
    # A process forked after torch has computed with several threads may wait for ever.
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_prepare, initargs=(weights,)) as pool:
        for shard in pool.imap_unordered(_make, missing):
            done += shard.clips
            speed = done / (time.monotonic() - since)
            print(f"{shard.frames.name}: {done} clips, {speed:.1f}/s", file=sys.stderr, flush=True)


def read_records(shards: list[Shard]) -> list[dict[str, Any]]:
    """The records of all clips, with the frames' file, place and number."""
    found = []
    for shard in shards:
        for line in shard.records.read_text().splitlines():
            found.append(json.loads(line) | {"file": str(shard.frames)})
    return found


def export_clips(shards: list[Shard], folder: Path) -> None:
    """Write the test clips and their list as they are shipped."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for record in read_records([shard for shard in shards if shard.split == "test"]):
        name = f"{record['name']}.opus"
        shutil.copyfile(Path(record["file"]).parent / name, folder / name)
        own = {key: value for key, value in record.items() if key not in _OF_THE_SHARD}
        lines.append(json.dumps(own, separators=(",", ":")))
    (folder / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _prepare(weights: Path | None) -> None:
    torch.set_num_threads(1)
    _ENCODER.append(FrameEncoder(load_encoder_weights(weights)))


def _make(shard: Shard) -> Shard:
    """Write one shard; test clips are stored as Opus and encoded from what was stored."""
    frames: list[np.ndarray] = []
    lines, place = [], 0
    for number in range(shard.index * SHARD, shard.index * SHARD + shard.clips):
        clip, sound = make_clip(f"{shard.split}-{number:05}", test=shard.split == "test")
        if shard.split == "test":
            sound = _through_opus(shard.folder / f"{clip.name}.opus", sound)
        encoded = _ENCODER[0](sound).numpy().astype(np.float16)
        lines.append(json.dumps(clip.to_dict() | {"place": place, "frames": len(encoded)}))
        frames.append(encoded)
        place += len(encoded)
    np.save(shard.frames, np.concatenate(frames))
    draft = shard.records.with_suffix(".draft")
    draft.write_text("\n".join(lines) + "\n")
    os.replace(draft, shard.records)
    return shard


def _through_opus(path: Path, sound: np.ndarray) -> np.ndarray:
    import soundfile  # type: ignore[import-untyped]

    soundfile.write(
        path, sound, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=_OPUS_LEVEL
    )
    samples: np.ndarray = soundfile.read(path, dtype="float32")[0]
    return samples
