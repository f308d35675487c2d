"""Media as each family's processor takes them, read without the plugin's server part."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.sound import read_sound
from tests.tgi_real.requests import Medium

#: Frames that a server takes of each second of a clip.
FPS = 2.0


def pictures(processor: Any, media: list[Medium]) -> dict[str, Any]:
    """Pictures; nothing at all rather than an empty list."""
    found = [Image.open(m.path).convert("RGB") for m in media if m.kind == "image"]
    return {"images": found} if found else {}


def clips(processor: Any, media: list[Medium]) -> dict[str, Any]:
    """All kinds of media for a processor of transformers; a clip's own sound is not heard."""
    given = pictures(processor, media)
    videos = [_frames(m) for m in media if m.kind == "video"]
    if videos:
        # The class of Qwen2.5-Omni's processor has a size that goes before the checkpoint's own.
        size = processor.video_processor.size
        edges = {name: getattr(size, name) for name in ("shortest_edge", "longest_edge")}
        options = {"do_sample_frames": False, "fps": FPS, "size": edges}
        given |= {"videos": videos, "videos_kwargs": options}
    sounds = [read_sound(m.path)[0] for m in media if m.kind == "audio"]
    return given | ({"audio": sounds} if sounds else {})


def _frames(medium: Medium) -> Any:
    frames, _ = read_clip(medium.path, FPS)
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]


def videollama2_inputs(processor: Any, media: list[Medium]) -> dict[str, Any]:
    """One medium; a clip with its sound."""
    given: dict[str, Any] = {}
    for medium in media:
        if medium.kind == "image":
            given["images"] = [str(medium.path)]
        elif medium.kind == "audio":
            given["audio"] = read_sound(medium.path)
        else:
            frames, waveform = read_clip(medium.path, FPS)
            given |= {"videos": [frames], "audio": [waveform]}
    return given


def clip_and_sound(processor: Any, media: list[Medium]) -> dict[str, Any]:
    """Clips with their sound, and sounds."""
    from fastav_plugin.model_overrides.video_salmonn2 import Clip

    found = []
    for medium in media:
        if medium.kind == "video":
            frames, waveform = read_clip(medium.path, FPS)
            found.append(Clip(frames, FPS, waveform))
    sounds = [read_sound(m.path)[0] for m in media if m.kind == "audio"]
    given: dict[str, Any] = {"videos": [found]} if found else {}
    return given | ({"audio": [sounds]} if sounds else {})
