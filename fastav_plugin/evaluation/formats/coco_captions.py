"""COCO captions: the authors' annotation file, and rows with a list of references."""

from collections.abc import Mapping
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format
from fastav_plugin.evaluation.formats.fields import Fault, Row, Table
from fastav_plugin.evaluation.matching import CAPTION

QUESTION = "Provide a one-sentence caption for the provided image."


def recognises(values: Mapping[str, Any]) -> bool:
    """Images with annotations; or a `file_name` with `captions`, or with lmms-lab's `answer`."""
    if "images" in values and "annotations" in values:
        return True
    return "file_name" in values and ("captions" in values or "coco_url" in values)


def rows_of(document: Mapping[str, Any]) -> Table:
    """One row per picture, with all its captions."""
    table, broken, captions = Table(), list[Fault](), dict[Any, list[Any]]()
    images, annotations = document.get("images"), document.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ConfigError("A file of COCO captions must hold the lists `images`, `annotations`.")
    known = {image.get("id") for image in images if isinstance(image, dict)}
    for index, note in enumerate(annotations):
        values = note if isinstance(note, dict) else {}
        if values.get("image_id") in known and isinstance(values.get("caption"), str):
            captions.setdefault(values["image_id"], []).append(values["caption"].strip())
        else:
            reason = "There is no caption or no image that it belongs to."
            broken.append(Fault(f"annotations[{index}]", reason))
    for index, image in enumerate(images):
        if isinstance(image, dict):
            image = {**image, "captions": captions.get(image.get("id"), [])}
        table.add(f"images[{index}]", image)
    table.faults += broken
    return table


def parse(row: Row, find: Find) -> Entry:
    """The question is the same for all pictures."""
    name = "captions" if "captions" in row.values else "answer"
    return Entry(
        task="captions",
        question=QUESTION,
        right=tuple(row.texts(name)),
        media={"image": find(row.text("file_name"), "image")},
        rule=CAPTION,
    )


FORMAT = Format("coco-captions", recognises, parse, rule=CAPTION, document=rows_of)
