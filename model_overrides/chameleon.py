"""Chameleon and Emu3: image tokens have ids of their own, marked by one placeholder."""

from typing import Any

from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality


@register_override
class ChameleonOverride(ModelOverride):
    """The image placeholder is an entry of the vocabulary map."""

    model_types = ("chameleon", "emu3")

    @override
    def placeholders(self, config: Any) -> dict[int, Modality]:
        return {config.vocabulary_map["<image>"]: Modality.IMAGE}
