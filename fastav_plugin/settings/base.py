"""What given fields are laid over: a preset, a file, or nothing but the family's defaults."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.calibration_file import read_calibration
from fastav_plugin.config import CONFIG_NAME, FastAVConfig
from fastav_plugin.hub.files import cached_file
from fastav_plugin.hub.ids import is_hub_id

#: In words, where nothing else is.
DEFAULTS = "the family's defaults"


@dataclass(frozen=True)
class BaseSettings:
    """Fields of FastAVConfig to start from.

    Attributes:
        source: where they come from, in words.
        fields: by name; those that are not among them have the family's defaults.
        explanation: sentences for `describe()`.
        place: of the file that holds them, as `from_pretrained` takes it; None without one.
    """

    source: str = DEFAULTS
    fields: Mapping[str, Any] = field(default_factory=dict)
    explanation: str = ""
    place: str | None = None

    @classmethod
    def of_model(cls, model: Any) -> "BaseSettings":
        """What the `fastav_config.json` in a model's folder says, if there is one.

        Args:
            model: a model, wrapped or not, its configuration, its folder or its hub id. Of a
                repository of the hub that file counts which the local cache holds.

        Raises:
            ConfigError: a file that cannot be read.
        """
        name = _origin(model)
        if name is None:
            return cls()
        if Path(name).is_dir():
            path = Path(name) / CONFIG_NAME
            return cls.of_file(path) if path.exists() else cls()
        if is_hub_id(name) and (found := cached_file(name, CONFIG_NAME)) is not None:
            return cls.of_file(found, f"{CONFIG_NAME} of {name}")
        return cls()

    @classmethod
    def of_file(cls, place: str | os.PathLike[str], source: str | None = None) -> "BaseSettings":
        """What a file says, given by its path, its folder or a hub id.

        Raises:
            ConfigError: no such file, or one that cannot be read.
        """
        config = FastAVConfig.from_pretrained(place)
        fields = {name: value for name, value in vars(config).items() if not name.startswith("_")}
        return cls(source or config.source, fields, place=os.fspath(place))

    def laid_under(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """These fields, and over them those that are given; see `laid_over`.

        Another method than theirs keeps their ratios, rule and layers, so that methods compare at
        one setting, and leaves out their `hooks`, which would replace it.
        """
        fields = dict(self.fields)
        if given.get("method", fields.get("method")) != fields.get("method"):
            fields.pop("hooks", None)
        return laid_over(fields, given)


def laid_over(below: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields over others; a calibration that is given goes before all that it decides below."""
    decided: Iterable[str] = ()
    if given.get("calibration") is not None:
        decided = read_calibration(given["calibration"]).settings
    return {**{name: value for name, value in below.items() if name not in decided}, **given}


def _origin(model: Any) -> str | None:
    """The folder or hub id that a model says it came from; the outermost part that says one.

    A part's configuration may name what the part was made from once.
    """
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    inner = [unwrap(model)] if isinstance(model, nn.Module) else []
    for each in (model, *inner):
        for holder in (getattr(each, "config", None), each):
            name = getattr(holder, "name_or_path", None)
            if isinstance(name, str) and name:
                return name
    return None
