"""ActivityNet-QA, judged offline: published figures are by GPT-3.5 and another metric."""

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row

#: Names of the numbers under `type`.
TYPES = (
    *("motion", "spatial relation", "temporal relation"),
    *("yes/no", "colour", "object", "location", "number", "other"),
)


def parse(row: Row, find: Find) -> Entry:
    """Questions come without a question mark and in lower case, answers in a file of their own."""
    if "answer" not in row.values:
        raise ConfigError(
            "There is no `answer`. The authors' answers are in another file, *_a.json."
        )
    kind = str(row.values.get("type"))
    if not kind.isdecimal() or int(kind) >= len(TYPES):
        raise ConfigError(
            f"`type` must be a number from 0 to {len(TYPES) - 1}, got {row.values.get('type')!r}."
        )
    name = row.text("video_name")
    return Entry(
        task=TYPES[int(kind)],
        question=row.text("question").strip().rstrip("?").strip().capitalize(),
        right=(row.text("answer").strip(),),
        media={"video": find(name if name.startswith("v_") else f"v_{name}", "video")},
    )


FORMAT = Format(
    "activitynet-qa",
    has("video_name", "question", "question_id"),
    parse,
    template="{question}? Answer the question using a single word or phrase.",
    rule="offline-match",
)
