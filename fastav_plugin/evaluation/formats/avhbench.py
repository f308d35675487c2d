"""AVHBench: what is heard and not seen, seen and not heard, and captions of both."""

from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row
from fastav_plugin.evaluation.matching import CAPTION

CAPTIONING = "AV Captioning"
#: The authors give their model the sound alone, or the pictures alone.
SOUND_ALONE, PICTURES_ALONE = "AV Hallucination (Audio_only)", "AV Hallucination (Video_only)"
#: The dataset's own names, and those of the authors' training file.
TASKS = (
    "Video-driven Audio Hallucination",
    "Audio-driven Video Hallucination",
    "AV Hallucination (Audio)",
    SOUND_ALONE,
    "AV Hallucination (Video)",
    PICTURES_ALONE,
    "AV Matching",
    CAPTIONING,
)


def parse(row: Row, find: Find) -> Entry:
    """`label` is Yes or No, or a caption."""
    task, label = row.text("task").strip(), row.text("label").strip()
    if task not in TASKS:
        raise unknown_name("`task`", task, TASKS)
    caption = task == CAPTIONING
    if not caption and label.lower() not in ("yes", "no"):
        raise ConfigError(f"`label` of {task!r} must be Yes or No, got {label!r}.")
    kind = "audio" if task == SOUND_ALONE else "video"
    return Entry(
        task=task,
        question=row.text("text").strip(),
        right=(label if caption else label.lower(),),
        media={kind: find(row.text("video_id"), "video")},
        sound=task != PICTURES_ALONE,
        rule=CAPTION if caption else None,
        chance=None if caption else 0.5,
    )


FORMAT = Format("avhbench", has("video_id", "task", "text", "label"), parse, rule="yes-no")
