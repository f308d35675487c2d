"""Presets: trades of accuracy for cost that have a name, for each kind of model.

All of them make FastAV's fine cuts from 0.7 of the depth on, and no global cut: by then the text
has taken in most of what the media say, and attention ranks tokens well. The cheaper ones keep a
share of the media before layer 0, too (DivPrune). Rules such as "below 750" are in none of them,
because they suit one family's prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastav_plugin.errors import unknown_name
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.settings.base import BaseSettings
from fastav_plugin.tokens import Modality

#: What a model takes, by the placeholders of its override.
AUDIO_VISUAL, VIDEO, IMAGE, AUDIO = "audio-visual", "video", "image", "audio"
KINDS = (AUDIO_VISUAL, VIDEO, IMAGE, AUDIO)

#: Where the first fine cut is, as a share of the layers.
DEPTH = 0.7

#: What the figures are of. The command repeats them.
MEASURED = (
    "Measured on the bundled audio-visual toy of 3.8 million parameters alone, on 300 questions "
    "(`fastav eval --preset {name} --questions 300`): {figures}"
)
#: What they do not say of other kinds of models.
UNMEASURED = {
    VIDEO: "Video without sound was not measured.",
    IMAGE: "Images were not measured.",
    AUDIO: "Sound alone was not measured.",
}
LARGER = "A large model may lose more: measure it with `fastav eval --data`."


@dataclass(frozen=True)
class Preset:
    """A trade that has a name.

    Attributes:
        name: as it is given.
        about: what it is for.
        keep: share of the media kept before layer 0; None for all.
        figures: what was measured on the bundled model.
        remarks: what else is known, by kind of model.
    """

    name: str
    about: str
    keep: float | None
    figures: str
    remarks: Mapping[str, str] = field(default_factory=dict)

    def settings(self, override: ModelOverride, model_config: Any, head: Any) -> BaseSettings:
        """Its fields for one model, and what `describe()` says of them.

        Args:
            override: of the model's family.
            model_config: its configuration.
            head: the module that generate() calls; None where there is a configuration alone.
        """
        kind = kind_of(override, model_config)
        scores = override.supports_scores if head is None else override.scores_allowed(head)
        layers = override.text_config(model_config).num_hidden_layers
        said = MEASURED.format(name=self.name, figures=self.figures)
        said += f" {UNMEASURED.get(kind, '')} {self.remarks.get(kind, '')}"
        if not scores:
            said += " Its attention scores cannot be read, so there are no fine cuts."
        return BaseSettings(
            f"the preset {self.name!r} for {kind} models",
            self.fields(kind, layers, scores),
            " ".join(f"Preset {self.name!r}: {self.about} {said} {LARGER}".split()),
        )

    def fields(self, kind: str, layers: int, scores: bool = True) -> dict[str, Any]:
        """Fields of FastAVConfig for a kind of model with so many layers."""
        ratios: dict[str, Any] = {}
        if self.keep is not None:
            if kind != AUDIO:
                ratios["visual_keep_ratio"] = self.keep
            if kind in (AUDIO_VISUAL, AUDIO):
                ratios["audio_keep_ratio"] = self.keep
        if not scores:
            return {"method": "divprune" if ratios else "late_removal", **ratios}
        cut = max(1, min(layers - 1, round(DEPTH * layers) - 1))
        method = "fastav+divprune" if ratios else "fastav"
        return {"method": method, "global_rule": "all", "global_layer": cut, **ratios}


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


#: By name, from the dearest to the cheapest.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "safe",
            "all media below 0.7 of the depth, then a fifth less at each layer.",
            None,
            "99.7 % right (98.9 to 100.0; dense 100.0) at 91.8 % of the FLOPs, in 8 layers: "
            "deeper models save more.",
        ),
        Preset(
            "balanced",
            "half of the media from the first layer on, then the fine cuts.",
            0.5,
            "99.7 % right (98.9 to 100.0; dense 100.0) at 41.3 % of the FLOPs.",
        ),
        Preset(
            "fast",
            "a quarter of the media from the first layer on, then the fine cuts.",
            0.25,
            "99.3 % right (98.3 to 100.0; dense 100.0) at 20.5 % of the FLOPs.",
            {
                IMAGE: "For DivPrune at 22 % of the tokens of LLaVA-1.5 the authors of CDPruner "
                "report 97.3 % of dense (arXiv 2506.10967).",
            },
        ),
    )
}
