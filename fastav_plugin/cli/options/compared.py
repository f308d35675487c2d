"""The settings that `fastav eval` compares."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.cli.console import note
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, Settings, calibrated
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hub.ids import is_hub_id


def split_configs(texts: Sequence[str] | None) -> tuple[str | None, dict[str, str]]:
    """The FILE|FOLDER among the values of a repeated `--config`, and those with a name.

    Raises:
        ConfigError: two files without a name, or two values with one.
    """
    place, named = None, {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or Path(text).exists():
            if not Path(text).exists() and not is_hub_id(text):
                raise ConfigError(f"`--config` takes a file, a folder or NAME=JSON, got {text!r}.")
            if place is not None:
                raise ConfigError("Give one `--config` without a name, which others start from.")
            place = text
            continue
        name = name.strip()
        if not name:
            raise ConfigError(f"`--config` takes NAME=JSON, got {text!r}.")
        if name in named:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
        named[name] = value.strip()
    return place, named


@dataclass(frozen=True)
class Compared:
    """The settings that `fastav eval` compares: of methods, and those with a name of their own.

    Attributes:
        settings: those of methods; what a name gives as JSON is laid over them.
        methods: their names.
        named: the fields that each `--config NAME=...` gives, and its file in words; None of JSON.
    """

    settings: Settings
    methods: Sequence[str]
    named: Mapping[str, tuple[Mapping[str, Any], str | None]]

    @classmethod
    def of(
        cls, settings: Settings, asked: Sequence[str] | None, named: Mapping[str, str]
    ) -> "Compared":
        """Those of the methods asked for, else of the default ones where nothing has a name.

        Raises:
            ConfigError: two have one name, a file cannot be read, or an option changes none.
        """
        methods = asked or ([] if named else settings.methods(None, DEFAULT_METHODS))
        methods = [name for name in methods if name != DENSE]
        names = [*methods, *named]
        for name in names:
            if name == DENSE or names.count(name) > 1:
                raise ConfigError(
                    f"Two settings are named {name!r}. Give every `--config` a name of its own."
                )
        made = cls(settings, methods, {name: _read_named(text) for name, text in named.items()})
        made._check()
        return made

    def configs(self, model: Any) -> dict[str, FastAVConfig]:
        """The config of each, by its name; `model` as `FastAVConfig.for_model` takes it."""
        from fastav_plugin.settings.base import laid_over

        wanted: dict[str, Mapping[str, Any]] = {name: {"method": name} for name in self.methods}
        wanted |= {name: fields for name, (fields, _) in self.named.items()}
        return {
            name: FastAVConfig.for_model(model, **laid_over(self.settings.keywords, fields))
            for name, fields in wanted.items()
        }

    def say(self, asked: Sequence[str] | None) -> None:
        """Write the line on stderr that says where the settings of each come from."""
        parts = []
        if self.methods:
            words = self.settings.words(["--method"] if asked else [])
            parts = [f"{', '.join(self.methods)}: {words}" if self.named else words]
        for name, (given, file) in self.named.items():
            # JSON that names a preset or a file replaces the base.
            whole = not {"preset", "config"}.isdisjoint(given)
            below = "" if whole else f" over {self.settings.words(without=_decided(given))}"
            parts.append(f"{name}: {file or f'its JSON{below}'}")
        note(f"Settings: {'; '.join(parts) or 'none, for dense is all that runs'}")

    def _check(self) -> None:
        """Refuse options that change nothing of what is compared."""
        if self.methods:
            return
        options, base = self.settings.options, self.settings.base
        over = [_decided(given) for given, file in self.named.values() if file is None]
        idle = [name for name, each in options.given().items() if all(each in x for x in over)]
        if all(set(base.fields) <= each or "preset" in each for each in over):
            idle += ["--preset"] * (options.preset is not None)
            idle += [f"--config {self.settings.config}"] * (self.settings.config is not None)
        if idle:
            listed = " and ".join(idle)
            change = "change" if len(idle) > 1 else "changes"
            if not self.named:
                raise ConfigError(f"{listed} {change} nothing where dense alone runs.")
            raise ConfigError(
                f"{listed} {change} no --config NAME=...: write it there, leave it out, or give "
                "--method, too."
            )


def _decided(fields: Mapping[str, Any]) -> set[str]:
    """The fields that JSON and its calibration decide."""
    return {*fields, *calibrated(fields)}


def _read_named(text: str) -> tuple[Mapping[str, Any], str | None]:
    if text.startswith("{"):
        try:
            return dict(json.loads(text)), None
        except ValueError as error:
            raise ConfigError(f"`--config` holds no JSON object: {error}. Got {text!r}.") from error
    config = FastAVConfig.from_pretrained(text)
    return config.to_dict(), config.source
