"""The options that say what is pruned, and the FastAVConfigs they make."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastav_plugin.analysis import DENSE
from fastav_plugin.cli.console import note
from fastav_plugin.config import RATIOS, FastAVConfig, check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import read_rules, rules_by_modality

if TYPE_CHECKING:
    from fastav_plugin.settings.base import BaseSettings

_TARGET = "--target-flops"

#: What a command compares where nothing else is asked for.
DEFAULT_METHODS = ("fastav", "divprune", "fastav+divprune")


def _within(interval: str) -> Callable[..., float | None]:
    """A check of a ratio as it is read from the command line, whose error names the option."""

    def check(param: typer.CallbackParam, value: float | None) -> float | None:
        check_ratio(param.opts[0], value, interval, optional=True)
        return value

    return check


def _check_rule(value: str | None) -> str | None:
    if value is not None:
        try:
            rules_by_modality(read_rules(value))
        except ConfigError as error:
            raise ConfigError(str(error).replace("`global_rule`", "`--rule`")) from error
    return value


Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="A method, or several joined by '+'. May be repeated."),
]
TargetFlops = Annotated[
    float | None,
    typer.Option(
        help="Choose the ratios that are not given so that prefill takes this share of the dense "
        "FLOPs, in (0, 1].",
        callback=_within("(0, 1]"),
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE|FOLDER",
        help="Settings that FastAVConfig.save_pretrained wrote, instead of the fastav_config.json "
        "in the model's folder; other options override them.",
    ),
]


#: The fields of FastAVConfig that options have another name for.
_FIELDS = {
    "rule": "global_rule",
    "drop_ratio": "fine_drop_ratio",
    "keep_ratio": "visual_keep_ratio",
}


@dataclass(frozen=True)
class Ratios:
    """Rules and ratios of the methods, each as its option takes it."""

    rule: Annotated[
        str | None,
        typer.Option(
            help="FastAV's global cut: 'below 750', or one rule per modality: "
            "'video=all, audio=first 10 tokens'.",
            callback=_check_rule,
        ),
    ] = None
    drop_ratio: Annotated[
        float | None,
        typer.Option(
            help="FastAV's P, in [0, 1). Default: the model family's.",
            callback=_within(RATIOS["fine_drop_ratio"]),
        ),
    ] = None
    keep_ratio: Annotated[
        float | None,
        typer.Option(
            help="Visual share DivPrune keeps, in (0, 1]. Default 0.5.",
            callback=_within(RATIOS["visual_keep_ratio"]),
        ),
    ] = None
    audio_keep_ratio: Annotated[
        float | None,
        typer.Option(
            help="Audio share DivPrune keeps. Default: all.",
            callback=_within(RATIOS["audio_keep_ratio"]),
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other field of FastAVConfig: 'global_layer=10'. May be repeated."
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            help="safe, balanced, fast or conversation: a method and its settings for the kinds "
            "of media that the model takes; other options override them."
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Fields of FastAVConfig that the user gave."""
        named = {
            "global_rule": None if self.rule is None else read_rules(self.rule),
            "fine_drop_ratio": self.drop_ratio,
            "visual_keep_ratio": self.keep_ratio,
            "audio_keep_ratio": self.audio_keep_ratio,
        }
        found = {name: value for name, value in named.items() if value is not None}
        for setting in self.settings or ():
            name, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(f"`--set` takes name=value, got {setting!r}.")
            found[name.strip()] = _value(value.strip())
        return found

    def given(self) -> dict[str, str]:
        """The options among these that the user gave, but for a preset, with the field of each."""
        named = [each.name for each in fields(self) if each.name not in ("settings", "preset")]
        found = {f"--{n.replace('_', '-')}": n for n in named if getattr(self, n) is not None}
        sets = [text.partition("=")[0].strip() for text in self.settings or ()]
        found = {option: _FIELDS.get(name, name) for option, name in found.items()}
        return found | {f"--set {name}": name for name in sets}

    def of(self, model: Any, config: str | None = None) -> "Settings":
        """What these options, and a settings file, come to for a model.

        Args:
            model: the checkpoint's folder, its configuration, or the model.
            config: of `--config`.

        Raises:
            ConfigError: an unknown preset, or a file that cannot be read.
        """
        from fastav_plugin.settings.resolution import base_settings

        given = self.overrides()
        if "method" in given:
            raise ConfigError("`--set` takes fields besides the method, which has its own option.")
        return Settings(self, base_settings(model, config, self.preset), given, config)


@dataclass(frozen=True)
class Pruning(Ratios):
    """Rules and ratios of the methods, and what a calibration chose."""

    calibration: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="File that `fastav calibrate` wrote for this model; other options override it.",
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Fields of FastAVConfig that the user gave; see Ratios."""
        given = {} if self.calibration is None else {"calibration": str(self.calibration)}
        return {**given, **super().overrides()}


@dataclass(frozen=True)
class Settings:
    """What a command prunes with: options over a preset, a file or the family's defaults.

    Attributes:
        options: as they were given.
        base: what they are laid over.
        fields: of FastAVConfig, that the options give.
        config: of `--config`.
    """

    options: Ratios
    base: "BaseSettings"
    fields: Mapping[str, Any]
    config: str | None

    @property
    def keywords(self) -> dict[str, Any]:
        """What `FastAVConfig.for_model` takes, except model and method."""
        place = {} if self.base.place is None else {"config": self.base.place}
        preset = {} if self.options.preset is None else {"preset": self.options.preset}
        return {**self.fields, **place, **preset}

    def methods(self, asked: Sequence[str] | None, default: Sequence[str]) -> list[str]:
        """The methods asked for; else that of a calibration, `--config` or preset; else a default.

        The default is the file's in the model's folder, where one method is wanted, and goes with
        it, where several are compared. "dense" is always the reference, so asking for it adds
        nothing.
        """
        own = self.base.fields.get("method")
        chosen = calibrated(self.fields).get("method")
        if chosen is None and (self.config is not None or self.options.preset is not None):
            chosen = own
        if chosen is None and own is not None:
            default = (own,) if len(default) == 1 else [*(own,) * (own not in default), *default]
        names = asked or (default if chosen is None else (chosen,))
        return [name for name in names if name != DENSE]

    def configs(
        self, model: Any, methods: Sequence[str] | None, default: Sequence[str], **budget: Any
    ) -> list[FastAVConfig]:
        """One config per method; `model` and `budget` as `FastAVConfig.for_model` takes them."""
        names = self.methods(methods, default)
        return [
            FastAVConfig.for_model(model, method=name, **self.keywords, **budget) for name in names
        ]

    def say(
        self,
        methods: Sequence[str] | str | None = None,
        target_flops: float | None = None,
        *,
        option: str = "--method",
    ) -> None:
        """Write the line on stderr that says where the settings come from.

        Args:
            methods: as asked.
            target_flops: likewise.
            option: that asks for methods.
        """
        names = [option] if methods else []
        note(f"Settings: {self.words(names if target_flops is None else [*names, _TARGET])}")

    def words(self, others: Sequence[str] = (), without: Collection[str] = ()) -> str:
        """Where the settings come from.

        Args:
            others: further options that were given.
            without: fields that do not come from these.
        """
        given = [name for name, each in self.options.given().items() if each not in without]
        given += others
        listed = " and ".join(filter(None, [", ".join(given[:-1]), *given[-1:]]))
        return self.base.source + (f", with {listed} given" if given else "")


def calibrated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a calibration among others decides."""
    path = given.get("calibration")
    if path is None:
        return {}
    from fastav_plugin.calibration_file import read_calibration  # imports torch

    return read_calibration(path).settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
