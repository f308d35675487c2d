"""Tables of given settings: the presets are those that a model of the same media gets."""

from __future__ import annotations

from typing import Any

import pytest

from fastav_plugin import FastAVConfig, TokenMap
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.lab.arenas.studies import presets
from fastav_plugin.settings.presets import AUDIO, AUDIO_VISUAL, PRESETS, VIDEO

LAYERS = 30


@pytest.mark.parametrize(
    ("spans", "kind"),
    [
        ({"video": [(2, 40)]}, VIDEO),
        ({"audio": [(2, 40)]}, AUDIO),
        ({"video": [(2, 40)], "audio": [(40, 60)]}, AUDIO_VISUAL),
    ],
)
def test_presets_follow_the_media(spans: dict[str, Any], kind: str) -> None:
    table = presets(LAYERS, TokenMap.from_spans(64, **spans))
    made = {spec.label: spec.config(0.0) for spec in table.specs}
    assert table.second and list(made) == ["default", *PRESETS]
    for name, preset in PRESETS.items():
        assert made[name] == FastAVConfig(**preset.fields(kind, LAYERS))


def test_the_default_is_that_of_a_family_without_settings() -> None:
    spec = presets(LAYERS, TokenMap.from_spans(64, video=[(2, 40)])).specs[0]
    hooks = method_hooks(spec.config(0.0))
    assert min(hooks.places(LAYERS)) == LAYERS // 2 + 1
