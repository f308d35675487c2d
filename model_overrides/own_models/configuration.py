"""The configuration of any model, of transformers or of this package, by its folder or hub id."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from fastav_plugin.errors import ConfigError, in_short
from fastav_plugin.hub.files import local_folder
from fastav_plugin.model_overrides.own_models.registry import read_own_config, register_models
from fastav_plugin.upstream.models import lacking


def read_config(place: str | Path) -> Any:
    """The configuration of a model, without its weights.

    Args:
        place: a folder, or a hub id.

    Raises:
        ConfigError: nothing of that name, no such file, not JSON, or a model type that neither
            transformers nor this package supports.
    """
    register_models()
    directory = local_folder(place, weights=False)
    try:
        own = read_own_config(directory)
        if own is not None:
            return own
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # configurations check their fields each in their own way
        reason = _lacking_type(directory) or in_short(error)
        raise ConfigError(
            f"'{directory}' holds no model that transformers can read: {reason}"
        ) from error


def _lacking_type(directory: Path) -> str | None:
    """Why the installed release has no models of a folder's type; None if that is not why."""
    try:
        stated = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = stated.get("model_type") if isinstance(stated, dict) else None
    return lacking(kind) if isinstance(kind, str) else None
