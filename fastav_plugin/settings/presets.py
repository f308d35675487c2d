"""Presets: trades of accuracy for cost that have a name, for each kind of model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastav_plugin.errors import unknown_name
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.settings.base import BaseSettings
from fastav_plugin.tokens import Modality

#: What a model takes, by the placeholders of its override.
AUDIO_VISUAL, VIDEO, IMAGE, AUDIO = "audio-visual", "video", "image", "audio"


@dataclass(frozen=True)
class Choice:
    """What one preset is for one kind of model.

    Attributes:
        fields: of FastAVConfig.
        measured: what was measured of it, and on what.
        depth: layer of the global cut as a share of the layers; None for the method's default.
    """

    fields: Mapping[str, Any]
    measured: str
    depth: float | None = None


@dataclass(frozen=True)
class Preset:
    """A trade that has a name.

    Attributes:
        name: as it is given.
        about: what it is for.
        choices: by the kind of model.
    """

    name: str
    about: str
    choices: Mapping[str, Choice]

    def settings(self, override: ModelOverride, model_config: Any) -> BaseSettings:
        """Its fields for one model, and what `describe()` says of them."""
        kind = kind_of(override, model_config)
        choice = self.choices[kind]
        fields = dict(choice.fields)
        if choice.depth is not None:
            layers = override.text_config(model_config).num_hidden_layers
            fields["global_layer"] = max(1, round(choice.depth * layers))
        return BaseSettings(
            f"the preset {self.name!r} for {kind} models",
            fields,
            f"Preset {self.name!r} for {kind} models: {self.about} {choice.measured}",
        )


def kind_of(override: ModelOverride, model_config: Any) -> str:
    """What a model takes, by its placeholders; audio-visual where they say nothing."""
    found = set(override.placeholders(model_config).values())
    if not found or (Modality.AUDIO in found and len(found) > 1):
        return AUDIO_VISUAL
    if Modality.VIDEO in found:
        return VIDEO
    return IMAGE if Modality.IMAGE in found else AUDIO


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


PRESETS: dict[str, Preset] = {}
