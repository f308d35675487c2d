"""Presets: trades of accuracy for cost that have a name, for each kind of model.

Those for one answer make FastAV's fine cuts from 0.7 of the depth on, and no global cut: by then
the text has taken in most of what the media say, and attention ranks tokens well. In the last
layers they drop all media. The cheaper ones keep a share of the media before layer 0, too
(DivPrune). The one for conversations drops media in the last layers alone, because what a question
does not ask for, the next one may. Rules of positions are in none of them: they suit one family's
prompts.
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

#: Where the first fine cut is, as a share of the layers, and what each fine cut drops.
DEPTH, DROP_RATIO = 0.7, 0.2

#: What the figures are of. The command repeats them.
MEASURED = (
    "Measured on the bundled audio-visual toy of 3.8 million parameters alone, on 300 questions "
    "(`fastav eval --preset {name} --questions 300`): {figures}"
)
#: What it does on a pretrained model, and on which.
PRETRAINED = (
    "On a pretrained language model (SmolLM2-135M-Instruct, a text as the media; no audio, no "
    "pictures; `fastav eval --suite real-lm --questions 24 --tables presets`) it keeps {figures}"
)
#: What they do not say of other kinds of models.
UNMEASURED = {
    VIDEO: "Video without sound was not measured.",
    IMAGE: "Images were not measured.",
    AUDIO: "Sound alone was measured on a small model (`fastav eval --suite real-audio "
    "--questions 42 --tables presets`).",
}
LARGER = "A large model may lose more: measure it with `fastav eval --data`."


@dataclass(frozen=True)
class Preset:
    """A trade that has a name.

    Attributes:
        name: as it is given.
        about: what it is for.
        pretrained: what was measured of it on a pretrained language model.
        figures: what was measured on the bundled model.
        keep: share of the media kept before layer 0; None for all.
        fine: whether there are fine cuts, where scores can be read.
        remarks: what else is known, by kind of model.
    """

    name: str
    about: str
    pretrained: str
    figures: str
    keep: float | None = None
    fine: bool = True
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """What was measured of it, and where."""
        found = MEASURED.format(name=self.name, figures=self.figures)
        return f"{PRETRAINED.format(figures=self.pretrained)} {found}"

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
        said = f"{self.measured} {UNMEASURED.get(kind, '')} {self.remarks.get(kind, '')}"
        if self.fine and not scores:
            said += " Its attention scores cannot be read, so there are no fine cuts."
        return BaseSettings(
            f"the preset {self.name!r} for {kind} models",
            self.fields(kind, layers, scores),
            " ".join(f"Preset {self.name!r}: {self.about} {said} {LARGER}".split()),
        )

    def fields(self, kind: str, layers: int, scores: bool = True) -> dict[str, Any]:
        """Fields of FastAVConfig for a kind of model with so many layers."""
        methods: list[str] = []
        found: dict[str, Any] = {}
        if self.fine and scores:
            methods.append("fastav")
            cut = max(1, min(layers - 1, round(DEPTH * layers) - 1))
            found |= {"global_rule": "all", "global_layer": cut, "fine_drop_ratio": DROP_RATIO}
        if self.keep is not None:
            methods.append("divprune")
            if kind != AUDIO:
                found["visual_keep_ratio"] = self.keep
            if kind in (AUDIO_VISUAL, AUDIO):
                found["audio_keep_ratio"] = self.keep
        return {"method": "+".join([*methods, "late_removal"]), **found}


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


#: By name: those for one answer from the dearest to the cheapest, then the one for several.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "safe",
            "all media below 0.7 of the depth, then a fifth less at each layer, and none in the "
            "last layers; for one answer about the media.",
            "all 23 answers at 78.9 % of the FLOPs (as many random tokens 48 %), and 70 % of those "
            "to a second question.",
            figures="99.3 % right (98.3 to 100.0; dense 100.0) at 84.9 % of the FLOPs, in 8 "
            "layers: deeper models save more.",
        ),
        Preset(
            "balanced",
            "half of the media from the first layer on, then as 'safe'; for one answer.",
            "57 % of 23 answers at 40.4 % of the FLOPs (as many random tokens 0 %): half before "
            "layer 0 suits redundant media, which a text is not.",
            keep=0.5,
            figures="99.3 % right (98.3 to 100.0; dense 100.0) at 39.1 % of the FLOPs.",
        ),
        Preset(
            "fast",
            "a quarter of the media from the first layer on, then as 'safe'; for one answer.",
            "none of 23 answers at 23.0 % of the FLOPs: a quarter before layer 0 suits redundant "
            "media, which a text is not.",
            keep=0.25,
            figures="98.3 % right (96.7 to 99.7; dense 100.0) at 19.9 % of the FLOPs.",
            remarks={
                IMAGE: "For DivPrune at 22 % of the tokens of LLaVA-1.5 the authors of CDPruner "
                "report 97.3 % of dense (arXiv 2506.10967).",
            },
        ),
        Preset(
            "conversation",
            "all media below 0.82 of the depth and none in the last layers, so that a later "
            "question finds in the cache what the first did not ask for.",
            "all 23 answers at 84.5 % of the FLOPs, and all of those to a second question; after "
            "fine cuts from the middle layer on 52 % of these are left.",
            figures="99.3 % right (98.3 to 100.0; dense 100.0) at 87.8 % of the FLOPs.",
            fine=False,
        ),
    )
}
