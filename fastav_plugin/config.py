"""FastAVConfig: what to prune and where, as data.

This module checks ranges and reads files, and knows neither hooks nor models: which methods there
are, and what suits a model, it is told through `upcalls`.
"""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeVar

from fastav_plugin import upcalls
from fastav_plugin.errors import ConfigError, FastAVError, in_short, unknown_name
from fastav_plugin.errors import check_integer as check_integer
from fastav_plugin.errors import check_ratio as check_ratio
from fastav_plugin.global_rule import rules_by_modality
from fastav_plugin.hub.ids import is_hub_id

if TYPE_CHECKING:
    from fastav_plugin.calibration_file import Calibration

CONFIG_NAME = "fastav_config.json"

#: Names of presets, for type checkers.
PresetName = Literal["safe", "balanced", "fast", "conversation"]
#: The fields that are ratios, and the interval of each.
RATIOS = {"fine_drop_ratio": "[0, 1)", "visual_keep_ratio": "(0, 1]", "audio_keep_ratio": "(0, 1]"}


class _NotGiven:
    """Default of a field that is not given, where None is a value."""

    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN: Any = _NotGiven()

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _named(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a method that takes fields by name refuse others as the class does."""
    signature = inspect.signature(function)
    known = [name for name in signature.parameters if name not in ("cls", "model")]

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for key in kwargs:
            if key not in signature.parameters:
                raise unknown_name("setting", key, known)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigError(
                f"FastAVConfig.for_model() takes a model, its configuration, its folder or its hub "
                f"id, then settings by name: {error}."
            ) from error
        return function(*args, **kwargs)

    return call


@dataclass(frozen=True, kw_only=True)
class FastAVConfig:
    """Settings of one pruning method.

        >>> config = FastAVConfig(method="divprune", visual_keep_ratio=0.25)
        >>> config.replace(audio_keep_ratio=0.5)
        FastAVConfig(method='divprune', visual_keep_ratio=0.25, audio_keep_ratio=0.5)

    Args:
        method: a registered method, or several joined by "+": "fastav", "divprune",
            "fastav+divprune", "none", or one of the baselines (`fastav models` lists them).
        global_layer: the layer on entering which FastAV's global cut is made, or the one cut of
            another method. None means the method's default, mostly L // 2.
        global_rule: what the global cut keeps, one rule for all media or one per modality:
            "all", "first N tokens", "first N frames", "below N" (positions counted from the batch
            row's first real token). All tokens of modalities that a mapping leaves out are kept.
            None means the model family's default.
        fine_drop_ratio: share of the surviving media tokens dropped on entering each later
            layer, in [0, 1). FastAV's P. None means the model family's default.
        visual_keep_ratio: share of image and video tokens kept, in (0, 1], by DivPrune and by every
            other method that has a ratio.
        audio_keep_ratio: the same for audio tokens; None keeps all audio.
        positions: "original" keeps each survivor's rotary position, "renumbered" counts the
            survivors of the entrance cut 0..n-1 as DivPrune was published.
        min_media_tokens: batch rows with fewer media tokens in their prompt are not pruned.
        calibration: path of a file that `fastav calibrate` wrote for this model. Its settings
            fill the fields that are not given.
        hooks: explicit LayerHooks (a LayerHookList); replaces what `method` names.

    Raises:
        ConfigError: a value out of range, or an unknown field.
    Reference: FastAV (arXiv 2601.13143), DivPrune (arXiv 2503.02175).
    """

    method: str = "fastav"
    global_layer: int | None = None
    global_rule: str | Mapping[str, str] | None = None
    fine_drop_ratio: float | None = None
    visual_keep_ratio: float = 0.5
    audio_keep_ratio: float | None = None
    positions: str = "original"
    min_media_tokens: int = 64
    calibration: str | PathLike[str] | None = None
    hooks: Any = None

    #: For `describe()` and `source`. No fields, so that equality and JSON compare settings only.
    _explanation: ClassVar[str] = ""
    _source: ClassVar[str] = "FastAVConfig(...)"
    #: Fields that were passed: a default that was passed wins over a calibration, too.
    _given: ClassVar[frozenset[str]] = frozenset()

    if not TYPE_CHECKING:  # which sees the dataclass's own __init__, with its names and types

        def __new__(cls, **values):
            """Refuse unknown fields and note which are given; a dataclass's __init__ cannot."""
            known = [field.name for field in dataclasses.fields(cls)]
            for key in values:
                if key not in known:
                    raise unknown_name("setting", key, known)
            config = super().__new__(cls)
            given = frozenset(name for name, value in values.items() if value is not None)
            object.__setattr__(config, "_given", given)
            return config

    def __post_init__(self) -> None:
        if self.calibration is not None:
            if not isinstance(self.calibration, (str, PathLike)):
                raise ConfigError(f"`calibration` must be a path, got {self.calibration!r}.")
            object.__setattr__(self, "calibration", str(self.calibration))
            # The file is read here so that every way to make a config fills the same fields.
            for name, value in _calibration(self.calibration).settings.items():
                if name not in self._given:
                    object.__setattr__(self, name, value)
        if not isinstance(self.method, str) or not self.method:
            raise ConfigError(f"`method` must be a name such as 'fastav', got {self.method!r}.")
        if self.hooks is None:
            upcalls.check_method(self.method)
        check_integer("global_layer", self.global_layer, minimum=1, optional=True)
        check_integer("min_media_tokens", self.min_media_tokens, minimum=0)
        for name, interval in RATIOS.items():
            check_ratio(name, getattr(self, name), interval, optional=name != "visual_keep_ratio")
        if self.positions not in ("original", "renumbered"):
            raise ConfigError(
                f"`positions` must be 'original' or 'renumbered', got {self.positions!r}."
            )
        if self.hooks is not None and not isinstance(self.hooks, (list, tuple)):
            raise ConfigError(
                f"`hooks` must be a LayerHookList or a list of hooks, got {self.hooks!r}."
            )
        if isinstance(self.global_rule, Mapping):
            object.__setattr__(self, "global_rule", dict(self.global_rule))
        self.rules()

    def rules(self) -> dict[str, str]:
        """The global cut's rule of each media modality; empty for the model family's default.

        Raises:
            ConfigError: a modality or a rule that there is not.
        """
        if self.global_rule is None:
            return {}
        return {name: str(rule) for name, rule in rules_by_modality(self.global_rule).items()}

    @classmethod
    @_named
    def for_model(
        cls,
        model: Any,
        method: str | None = None,
        *,
        config: str | PathLike[str] | None = None,
        preset: PresetName | None = None,
        target_flops: float | None = None,
        prompt: Any = None,
        global_layer: int | None = _NOT_GIVEN,
        global_rule: str | Mapping[str, str] | None = _NOT_GIVEN,
        fine_drop_ratio: float | None = _NOT_GIVEN,
        visual_keep_ratio: float = _NOT_GIVEN,
        audio_keep_ratio: float | None = _NOT_GIVEN,
        positions: str = _NOT_GIVEN,
        min_media_tokens: int = _NOT_GIVEN,
        calibration: str | PathLike[str] | None = _NOT_GIVEN,
        hooks: Any = _NOT_GIVEN,
    ) -> "FastAVConfig":
        """Make the config that suits a model.

        What is given here goes first, each field by its own; then a preset, or the settings file
        `config`, or else the `fastav_config.json` in the folder that the model came from; then the
        defaults of the model's family. `source` says which it was.

        Another method than the file's keeps the file's other fields. None as a value of a field is
        given, too: it goes before the file's.

        Args:
            model: a PreTrainedModel, possibly wrapped by PEFT, torch.compile or accelerate, a
                PreTrainedConfig, the folder of a checkpoint or a hub id. Of a hub repository that
                file counts which is in the local cache; a repository that is given by its id is
                downloaded where the cache has nothing of it, without the weights.
            method: as in the class; None for the file's, the calibration's, or "fastav".
            config: a `fastav_config.json`, its folder or a hub id, instead of the model's own.
            preset: "safe", "balanced", "fast" or "conversation", for the kinds of media that the
                model takes; `describe()` says what was measured of it. No file is read then.
            target_flops: choose the method's ratios so that the prefill of `prompt` takes this
                share of the dense FLOPs, in (0, 1]: at most, and as near as possible. A target
                above what the defaults take therefore loosens them. Fields are changed in the
                order `visual_keep_ratio`, `audio_keep_ratio`, `fine_drop_ratio`, `global_rule`,
                `global_layer`, first within soft bounds; those that are given are not
                changed, nor is a rule that keeps all. `describe()` says what was chosen.
            prompt: the prompt that `target_flops` is for: a TokenMap, token counts such as
                `{"text": 50, "video": 676, "audio": 1496}`, or the inputs of generate().
            global_layer: as in the class, and so are the following.
            global_rule: likewise.
            fine_drop_ratio: likewise.
            visual_keep_ratio: likewise.
            audio_keep_ratio: likewise.
            positions: likewise.
            min_media_tokens: likewise.
            calibration: likewise; goes before the file's values of the fields that it decides.
            hooks: likewise.

        Raises:
            ConfigError: unknown method, preset or field, a file that cannot be read, or a target
                out of reach; the message names the lowest that the method reaches.
            UnsupportedError: the model cannot be pruned; the message says why.
        """
        fields = {
            "global_layer": global_layer,
            "global_rule": global_rule,
            "fine_drop_ratio": fine_drop_ratio,
            "visual_keep_ratio": visual_keep_ratio,
            "audio_keep_ratio": audio_keep_ratio,
            "positions": positions,
            "min_media_tokens": min_media_tokens,
            "calibration": calibration,
            "hooks": hooks,
        }
        given = {} if method is None else {"method": method}
        given |= {name: value for name, value in fields.items() if value is not _NOT_GIVEN}
        if target_flops is None and prompt is not None:
            raise ConfigError("`prompt` is used with `target_flops` only. Give both, or neither.")
        budget = None if target_flops is None else (target_flops, prompt)
        resolved: FastAVConfig = upcalls.resolve_config(
            model, given, config=config, preset=preset, budget=budget
        )
        return resolved

    @property
    def source(self) -> str:
        """Where the settings come from, in words: a file, a preset, or the family's defaults.

        A config changed by `replace` keeps the words of the one it was made from.
        """
        return self._source

    def __repr__(self) -> str:
        """The call that makes an equal config: what differs from defaults, or from a calibration.

        All fields where the calibration can no longer be read.
        """
        values, unread = self._fields(), object()
        known = {field.name: field.default for field in dataclasses.fields(self)}
        if self.calibration is not None:
            try:
                known |= _calibration(self.calibration).settings
            except ConfigError:
                known = dict.fromkeys(known, unread)
        given = [f"{k}={v!r}" for k, v in values.items() if k == "method" or v != known[k]]
        return f"{type(self).__name__}({', '.join(given)})"

    def describe(self) -> str:
        """One or two sentences: the settings that differ from the class defaults, and why."""
        given = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name == "method" or getattr(self, field.name) != field.default
        )
        text = f"FastAVConfig({given})."
        if self.calibration is not None:
            text += f" {_calibration(self.calibration).describe(self._fields())}"
        return f"{text} {self._explanation}".rstrip()

    def explained(self, explanation: str) -> "FastAVConfig":
        """The same config with a sentence for `describe()`; a changed copy does not keep it."""
        twin = self.replace()
        object.__setattr__(twin, "_explanation", explanation)
        return twin

    def sourced(self, source: str, before: str = "", after: str = "") -> "FastAVConfig":
        """The same config with its `source`, and sentences around its own of `describe()`."""
        twin = self.explained(" ".join(filter(None, [before, self._explanation, after])))
        object.__setattr__(twin, "_source", source)
        return twin

    def replace(self, **changes: Any) -> "FastAVConfig":
        """A copy with some fields changed.

        Another `calibration` replaces the fields that it decides, except those among the changes.
        """
        fields = self._fields()
        if changes.get("calibration") not in (None, self.calibration):
            for name in _calibration(changes["calibration"]).settings:
                fields.pop(name, None)
        twin = type(self).from_dict({**fields, **changes})
        object.__setattr__(twin, "_source", self._source)
        return twin

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; explicit hooks become their own `to_dict()`."""
        values = self._fields()
        if self.hooks is not None:
            values["hooks"] = [
                dict(hook) if isinstance(hook, Mapping) else hook.to_dict() for hook in self.hooks
            ]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FastAVConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a key that is no field; the message names the nearest one.
        """
        return cls(**values)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `fastav_config.json` into a directory, made if missing.

        A calibration file is copied into the directory, so that it can be moved.

        Raises:
            HookError: an explicit hook that is not registered, so could not be read back.
        """
        values = self.to_dict()
        Path(directory).mkdir(parents=True, exist_ok=True)
        if self.calibration is not None:
            values["calibration"] = _calibration(self.calibration).copy_to(directory)
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (Path(directory) / CONFIG_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, directory: str | PathLike[str]) -> "FastAVConfig":
        """Read `fastav_config.json` from a directory, or the JSON file itself.

        A relative path of a calibration file is relative to that directory.

        Args:
            directory: a directory, a file, or a hub id, whose file is downloaded where the local
                cache does not have it.

        Raises:
            ConfigError: no such file, or not one JSON object of known keys.
        """
        path, of_hub = Path(directory), is_hub_id(directory)
        if of_hub:
            path = _hub_file(str(directory), CONFIG_NAME)
        elif path.is_dir():
            path = path / CONFIG_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"Cannot read the config file '{path}': {in_short(error)}."
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"'{path}' must hold one JSON object, got {type(values).__name__}.")
        if isinstance(values.get("calibration"), str):
            name = values["calibration"]
            values["calibration"] = str(
                _hub_file(str(directory), name) if of_hub else path.parent / name
            )
        try:
            config = cls.from_dict(values)
        except FastAVError as error:
            raise type(error)(f"'{path}': {error}") from error
        except TypeError as error:
            raise ConfigError(f"'{path}' holds a value of a wrong type: {error}.") from error
        return config.sourced(f"{CONFIG_NAME} of {directory}" if of_hub else str(path))


# What inspect and notebooks show: the fields, which the class takes by name.
FastAVConfig.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    list(inspect.signature(FastAVConfig.__init__).parameters.values())[1:]
)


def _calibration(path: str | PathLike[str]) -> "Calibration":
    from fastav_plugin.calibration_file import read_calibration  # imports torch

    return read_calibration(path)


def _hub_file(place: str, name: str) -> Path:
    from fastav_plugin.hub.files import hub_file

    return hub_file(place, name)
