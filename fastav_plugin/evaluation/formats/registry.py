"""Which formats there are, and which one a file has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.evaluation.formats import (
    activitynet_qa,
    avhbench,
    avqa,
    coco_captions,
    music_avqa,
    plain,
    pope,
    videollama2,
)
from fastav_plugin.evaluation.formats.base import Format
from fastav_plugin.evaluation.formats.fields import Table

#: A new format is one name.
_MODULES = (avqa, music_avqa, avhbench, pope, activitynet_qa, videollama2, coco_captions, plain)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}


def find_format(name: str | None, table: Table, path: Path) -> Format:
    """The format of that name; without a name, the one that the first record alone fits."""
    if name is not None:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        return FORMATS[name]
    first: Mapping[str, Any] = table.rows[0].values if table.rows else {}
    found = [form for form in FORMATS.values() if form.recognises(first)]
    if len(found) != 1:
        if not table.rows:
            first_fault = f" The first problem: {table.faults[0]}" if table.faults else ""
            raise ConfigError(f"'{path}' holds no record.{first_fault}")
        seen = ", ".join(sorted(first)) or "none"
        which = " and ".join(form.name for form in found) or "no known format"
        raise ConfigError(
            f"'{path}' looks like {which}; the fields of its first record are: {seen}. Give "
            f"`--format`: {', '.join(FORMATS)}."
        )
    return found[0]
