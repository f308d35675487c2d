"""What a question hangs on: which sense, and when in the clip."""

from fastav_plugin.lab.testbed.tasks import TaskQuestion
from fastav_plugin.lab.testbed.world import SHAPES, SOUNDS, Clip, Event, Thing

#: Questions that only sight, or only hearing, can answer.
SIGHT, SOUND = ("visible", "colour"), ("heard", "sound", "order")
EARLY, LATE = "early", "late"


def find_needle(clip: Clip, question: TaskQuestion) -> str | None:
    """In which half of the clip the middle of what is asked for lies.

    A shape is there for a part of the clip, a sound wholly inside one half.

    Returns:
        `EARLY` or `LATE`; None where what is asked for is not there, or is all there is.
    """
    if question.task == "match":
        return None
    found = _asked(clip, question)
    if found is None:
        return None
    return LATE if found.onset + found.offset >= clip.seconds else EARLY


def _asked(clip: Clip, question: TaskQuestion) -> Thing | Event | None:
    words = question.text.lower().rstrip("?").split()
    for thing in clip.things:
        if question.task in SIGHT and SHAPES[thing.shape] in words:
            return thing
    for event in clip.events:
        if question.task in SOUND and (question.task == "sound" or SOUNDS[event.sound] in words):
            return event
    return None
