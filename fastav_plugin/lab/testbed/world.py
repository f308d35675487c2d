"""The synthetic world: which shapes and sounds a clip holds, drawn from one seed.

A clip lasts a few seconds. Coloured shapes drift over a textured background for a part of it and
sounds happen over noise. Each shape has a sound of its own, the association that the "match" task
asks for. Rendering is in `picture` and `sound`; this module only decides what happens when.

Seeds below `FIRST_TRAINING_SEED` are never trained on. Some shape-colour-sound combinations are
held out as well: see `is_held_out`.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SHAPES = ("circle", "square", "triangle", "cross", "ring", "ladder")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
# SOUNDS[i] belongs to SHAPES[i].
SOUNDS = ("chime", "click", "siren", "hum", "hiss", "beep")

FRAME_SIZE = 112
CLIP_SECONDS = 8
FIRST_TRAINING_SEED = 1_000_000_000
# Seconds: long enough for two frames, and for a sound to show its nature.
_SHORTEST_STAY, _SHORTEST_SOUND = 1.1, 0.4

_Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """A coloured shape that drifts through the picture for a part of the clip.

    Attributes:
        shape: index into `SHAPES`.
        colour: index into `COLOURS`.
        centre: x and y in pixels at the middle of its stay.
        velocity: x and y in pixels per second.
        radius: in pixels.
        angle: rotation in radians.
        onset: second at which it appears.
        offset: second at which it is gone.
    """

    shape: int
    colour: int
    centre: tuple[float, float]
    velocity: tuple[float, float]
    radius: float
    angle: float
    onset: float
    offset: float


@dataclass(frozen=True)
class Event:
    """One sound, wholly inside the first or the second half of the clip.

    Attributes:
        sound: index into `SOUNDS`.
        onset: second at which it starts.
        offset: second at which it ends.
        gain: root mean square of the samples while it lasts.
        pitch: factor on its frequencies.
    """

    sound: int
    onset: float
    offset: float
    gain: float
    pitch: float

    def is_late(self, seconds: float) -> bool:
        """Whether the sound lies in the second half of a clip of `seconds`."""
        return self.onset >= seconds / 2


@dataclass(frozen=True)
class Clip:
    """Everything that happens in a clip; pictures and samples follow from it and the seed."""

    seed: int
    seconds: int
    things: tuple[Thing, ...]
    events: tuple[Event, ...]

    @property
    def shapes(self) -> frozenset[int]:
        """Indices of the visible shapes."""
        return frozenset(thing.shape for thing in self.things)

    @property
    def sounds(self) -> frozenset[int]:
        """Indices of the sounds heard."""
        return frozenset(event.sound for event in self.events)

    @property
    def matches(self) -> bool | None:
        """Whether every sound belongs to a visible shape; None where some do and some do not."""
        belonging = self.sounds & self.shapes
        if belonging and belonging != self.sounds:
            return None
        return bool(belonging)


@dataclass(frozen=True)
class Difficulty:
    """How full and how long clips are.

    Attributes:
        seconds: length of the clip, even.
        things: most shapes visible in one clip, 1 to 3.
        sounds: most sounds heard in one clip, 1 or 2.
        held_out: False draws clips without any held-out combination, True draws clips with at
            least one.
        apart: share of the clips with two sounds that have them in different halves.
    """

    seconds: int = CLIP_SECONDS
    things: int = 3
    sounds: int = 2
    held_out: bool = field(default=False, kw_only=True)
    apart: float = field(default=0.7, kw_only=True)


def is_held_out(shape: int, colour: int, sound: int) -> bool:
    """Whether this combination, about one in seven, is kept out of training."""
    return (shape + 2 * colour + 3 * sound) % 7 == 0


def sample_clip(seed: int, difficulty: Difficulty | None = None) -> Clip:
    """Draw the clip of a seed.

    Args:
        seed: any non-negative integer; the same seed and difficulty give the same clip.
        difficulty: length and fullness; the full difficulty when None.
    """
    difficulty = difficulty or Difficulty()
    rng = np.random.default_rng((seed, 1))
    while True:
        shapes, colours, sounds = _sample_content(rng, difficulty)
        combinations = [
            is_held_out(shape, colour, sound)
            for shape, colour in zip(shapes, colours, strict=True)
            for sound in sounds
        ]
        if any(combinations) == difficulty.held_out:
            break
    return Clip(
        seed=seed,
        seconds=difficulty.seconds,
        things=_place_things(rng, shapes, colours, difficulty.seconds),
        events=_place_events(rng, sounds, difficulty),
    )


def _sample_content(
    rng: np.random.Generator, difficulty: Difficulty
) -> tuple[list[int], list[int], list[int]]:
    """Shapes, their colours, and sounds: all of the shapes, none of them, or a mixture."""
    n_things = int(rng.integers(1, difficulty.things + 1))
    n_sounds = int(rng.integers(1, difficulty.sounds + 1))
    order = [int(i) for i in rng.permutation(len(SHAPES))]
    shapes, absent = order[:n_things], order[n_things:]
    colours = [int(i) for i in rng.permutation(len(COLOURS))[:n_things]]
    present = [int(i) for i in rng.permutation(shapes)]
    mixed = n_sounds == 2 and (n_things == 1 or rng.random() < 0.2)
    if mixed:
        sounds = [present[0], absent[0]]
    elif rng.random() < 0.5:
        sounds = present[:n_sounds]
    else:
        sounds = absent[:n_sounds]
    return shapes, colours, sounds


def _place_things(
    rng: np.random.Generator, shapes: list[int], colours: list[int], seconds: int
) -> tuple[Thing, ...]:
    """Give each shape a region of its own, so that none hides another."""
    regions = _regions(rng, len(shapes))
    things = []
    for (low, high), shape, colour in zip(regions, shapes, colours, strict=True):
        radius = float(rng.uniform(19, 26))
        # A region may be a little smaller than the shape that drifts in its middle.
        reach = np.minimum(radius + 2, (high - low) / 2 - 3)
        centre = rng.uniform(low + reach, high - reach)
        stay = max(_SHORTEST_STAY, float(rng.uniform(0.15, 0.8)) * seconds)
        onset = float(rng.uniform(0, seconds - stay))
        drift = rng.uniform(-1, 1, 2) * (18 if len(shapes) == 1 else 8)  # pixels from the middle
        things.append(
            Thing(
                shape=shape,
                colour=colour,
                centre=(float(centre[0]), float(centre[1])),
                velocity=(float(drift[0] * 2 / stay), float(drift[1] * 2 / stay)),
                radius=radius,
                angle=float(rng.uniform(-0.25, 0.25)),
                onset=onset,
                offset=onset + stay,
            )
        )
    return tuple(things)


def _regions(rng: np.random.Generator, count: int) -> list[tuple[_Pixels, _Pixels]]:
    """Lowest and highest x and y of regions: the whole picture, its halves or its quarters."""
    columns, rows = ((1, 1), (2, 1) if rng.random() < 0.5 else (1, 2), (2, 2))[count - 1]
    size = np.array([FRAME_SIZE / columns, FRAME_SIZE / rows])
    corners = [size * (column, row) for row in range(rows) for column in range(columns)]
    return [(corners[i], corners[i] + size) for i in rng.permutation(len(corners))[:count]]


def _place_events(
    rng: np.random.Generator, sounds: list[int], difficulty: Difficulty
) -> tuple[Event, ...]:
    """Put sounds into halves of the clip."""
    halves = [int(rng.integers(2))] * len(sounds)
    if rng.random() < difficulty.apart:
        halves[1:] = [1 - halves[0]] * len(halves[1:])
    return tuple(
        _place_event(rng, sound, difficulty.seconds, half)
        for sound, half in zip(sounds, halves, strict=True)
    )


def _place_event(rng: np.random.Generator, sound: int, seconds: int, half: int) -> Event:
    length = max(_SHORTEST_SOUND, float(rng.uniform(0.15, 0.8)) * min(seconds / 2, 3.0))
    onset = float(rng.uniform(0, seconds / 2 - length)) + seconds / 2 * half
    return Event(
        sound=sound,
        onset=onset,
        offset=onset + length,
        gain=float(rng.uniform(0.06, 0.25)),
        pitch=float(rng.uniform(0.9, 1.1)),
    )
