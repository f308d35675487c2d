"""What a made file is, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: From each second on, the name of the colour that fills the picture; None for any.
Shown = tuple[tuple[float, str | None], ...]
#: Start in seconds and frequency of each.
Beeps = tuple[tuple[float, float], ...]

Role = Literal["video", "image", "audio"]


@dataclass(frozen=True)
class Expected:
    """What a player shows.

    Attributes:
        seconds: from the start to the longer end of pictures and sound; for a sound, its length.
        shown: colours over time.
        beeps: heard, and nothing else; None where the clip has no sound, or a silent one.
        corners: colours top left, top right, bottom left and bottom right, at every time.
        size: height and width of the pictures as presented.
        tolerance: levels by which each channel of a colour may differ.
        late: seconds by which a beep may differ.
        error: what the refusal says; then the rest is what can be decoded all the same, or
            nothing where `seconds` and `size` are None.
    """

    seconds: float | None = None
    shown: Shown = ()
    beeps: Beeps | None = None
    corners: tuple[str, str, str, str] | None = None
    size: tuple[int, int] | None = None
    tolerance: int = 40
    late: float = 0.01
    error: str | None = None

    @property
    def readable(self) -> bool:
        """Whether anything can be decoded, if only with `allow_damaged`."""
        return self.seconds is not None or self.size is not None


@dataclass(frozen=True)
class MadeFile:
    """A file and its expected reading.

    Attributes:
        name: of the file, with its ending.
        role: what it is read as.
        write: writes the file at the path given.
        expected: what a player shows.
        refused: what a server says that refuses the kind on purpose.
        needs: module without which the file cannot be read.
    """

    name: str
    role: Role
    write: Callable[[Path], None]
    expected: Expected
    refused: str | None = None
    needs: str | None = None
