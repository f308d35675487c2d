"""What a name of a checkpoint is: a folder, or a hub id."""

import os
import re
from pathlib import Path

from fastav_plugin.errors import ConfigError

_PART = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_ID = re.compile(f"{_PART}/{_PART}", re.ASCII)


def is_hub_id(place: str | os.PathLike[str]) -> bool:
    """Whether a name has the form of a hub id, "org/name", and is no path that exists."""
    text = os.fspath(place)
    return bool(_ID.fullmatch(text)) and "--" not in text and not Path(text).exists()


def check_place(place: str | os.PathLike[str]) -> None:
    """Refuse what is neither a folder nor has the form of a hub id; nothing is downloaded.

    Raises:
        ConfigError: the name, what is wrong with it, and what is allowed.
    """
    path = Path(place).expanduser()
    if path.is_dir() or is_hub_id(place):
        return
    what = "is a file" if path.exists() else "does not exist"
    raise ConfigError(
        f"'{place}' {what}. Give the folder of a checkpoint, or a hub id such as "
        "Qwen/Qwen2.5-Omni-7B."
    )
