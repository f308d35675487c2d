"""An FFmpeg for torchcodec, which transformers' server reads video files with."""

from __future__ import annotations

import ctypes.util
import importlib.util
import re
from pathlib import Path


def environment(folder: Path) -> dict[str, str] | None:
    """What a process needs in its environment to read video; None if this machine cannot.

    torchcodec brings no FFmpeg. PyAV's wheel does, under names with a checksum in them; links
    with the usual names make it everybody's.

    Args:
        folder: an empty folder for the links.
    """
    if importlib.util.find_spec("torchcodec") is None:
        return None
    if ctypes.util.find_library("avcodec") is not None:
        return {}
    found = importlib.util.find_spec("av")
    shipped = [] if found is None else Path(str(found.origin)).parents[1].glob("av.libs/*")
    for library in shipped:
        (folder / library.name).symlink_to(library)
        # libavcodec-5e6b81c2.so.62.28.102 is asked for as libavcodec.so.62.
        usual = re.fullmatch(r"(.+)-[0-9a-f]{8}(\.so(\.\d+)?).*", library.name)
        if usual is not None:
            (folder / (usual[1] + usual[2])).symlink_to(library)
    return {"LD_LIBRARY_PATH": str(folder)} if any(folder.iterdir()) else None
