"""FastAVConfig: what to prune and where, as data.

This module checks ranges and reads files, and knows neither hooks nor models. Names of methods
and hooks are checked in `for_model`, when a cache is made, and when it is bound.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fastav_plugin import upcalls
from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.global_rule import rules_by_modality

if TYPE_CHECKING:
    from fastav_plugin.calibration_file import Calibration

CONFIG_NAME = "fastav_config.json"


@dataclass(frozen=True, kw_only=True)
class FastAVConfig:
    """Settings of one pruning method.

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
            layer, in [0, 1). FastAV's P.
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
    fine_drop_ratio: float = 0.2
    visual_keep_ratio: float = 0.5
    audio_keep_ratio: float | None = None
    positions: str = "original"
    min_media_tokens: int = 64
    calibration: str | PathLike[str] | None = None
    hooks: Any = None

    #: For `describe()`. No field, so that equality and JSON compare settings only.
    _explanation: ClassVar[str] = ""
    #: Fields that were passed: a default that was passed wins over a calibration, too.
    _given: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, **values: Any) -> FastAVConfig:
        """Refuse unknown fields and note which are given; a dataclass's own __init__ cannot."""
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
        check_integer("global_layer", self.global_layer, minimum=1, optional=True)
        check_integer("min_media_tokens", self.min_media_tokens, minimum=0)
        check_ratio("fine_drop_ratio", self.fine_drop_ratio, "[0, 1)")
        check_ratio("visual_keep_ratio", self.visual_keep_ratio, "(0, 1]")
        check_ratio("audio_keep_ratio", self.audio_keep_ratio, "(0, 1]", optional=True)
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
    def for_model(
        cls,
        model: Any,
        method: str | None = None,
        *,
        target_flops: float | None = None,
        prompt: Any = None,
        **overrides: Any,
    ) -> FastAVConfig:
        """Make the config that suits a model (or its configuration).

        Args:
            model: a PreTrainedModel, possibly wrapped by PEFT, torch.compile or accelerate, or a
                PreTrainedConfig.
            method: as in the class; None for the calibration's, or "fastav".
            target_flops: choose the method's ratios so that the prefill of `prompt` takes this
                share of the dense FLOPs, in (0, 1]: at most, and as near as possible. A target
                above what the defaults take therefore loosens them. Fields are changed in the
                order `visual_keep_ratio`, `audio_keep_ratio`, `fine_drop_ratio`, `global_rule`,
                `global_layer`, first within soft bounds; those among `overrides` are not
                changed. `describe()` says what was chosen.
            prompt: the prompt that `target_flops` is for: a TokenMap, token counts such as
                `{"text": 50, "video": 676, "audio": 1496}`, or the inputs of generate().
            overrides: any other field, instead of the model family's default.

        Raises:
            ConfigError: unknown method or field, or a target out of reach; the message names the
                lowest that the method reaches.
            UnsupportedError: the model cannot be pruned; the message says why.
        """
        config = cls.from_dict(overrides if method is None else {"method": method, **overrides})
        if target_flops is None and prompt is not None:
            raise ConfigError("`prompt` is used with `target_flops` only. Give both, or neither.")
        wanted = None if target_flops is None else (target_flops, prompt, frozenset(overrides))
        resolved: FastAVConfig = upcalls.resolve_config(model, config, wanted)
        return resolved

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

    def explained(self, explanation: str) -> FastAVConfig:
        """The same config with a sentence for `describe()`; a changed copy does not keep it."""
        twin = self.replace()
        object.__setattr__(twin, "_explanation", explanation)
        return twin

    def replace(self, **changes: Any) -> FastAVConfig:
        """A copy with some fields changed.

        Another `calibration` replaces the fields that it decides, except those among the changes.
        """
        fields = self._fields()
        if changes.get("calibration") not in (None, self.calibration):
            for name in _calibration(changes["calibration"]).settings:
                fields.pop(name, None)
        return type(self).from_dict({**fields, **changes})

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
    def from_dict(cls, values: Mapping[str, Any]) -> FastAVConfig:
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
    def from_pretrained(cls, directory: str | Path) -> FastAVConfig:
        """Read `fastav_config.json` from a directory, or the JSON file itself.

        A relative path of a calibration file is relative to that directory.

        Raises:
            ConfigError: no such file, or not one JSON object of known keys.
        """
        path = Path(directory)
        path = path / CONFIG_NAME if path.is_dir() else path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"Cannot read the config file '{path}': {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f"'{path}' must hold one JSON object, got {type(values).__name__}.")
        if isinstance(values.get("calibration"), str):
            values["calibration"] = str(path.parent / values["calibration"])
        try:
            return cls.from_dict(values)
        except TypeError as error:
            raise ConfigError(f"'{path}' holds a value of a wrong type: {error}.") from error


def check_integer(name: str, value: Any, *, minimum: int, optional: bool = False) -> None:
    """Refuse anything but an integer of at least `minimum`, and None unless it is `optional`."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(f"`{name}` must be an integer of at least {minimum}, got {value!r}.")


def check_ratio(name: str, value: Any, interval: str, *, optional: bool = False) -> None:
    """Refuse anything but a number in an interval such as "(0, 1]", and None unless `optional`.

    The interval is from 0 to 1; a round bracket leaves its end out.
    """
    if value is None and optional:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    low, high = interval[0] == "[", interval[-1] == "]"
    if not number or not (0 < value < 1 or (low and value == 0) or (high and value == 1)):
        raise ConfigError(f"`{name}` must lie in {interval}, got {value!r}.")


def _calibration(path: str | PathLike[str]) -> Calibration:
    from fastav_plugin.calibration_file import read_calibration  # imports torch

    return read_calibration(path)
