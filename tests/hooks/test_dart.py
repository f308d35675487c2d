"""DART: pivots of media and of text."""

from dataclasses import replace

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import ENTRANCE, Dart
from tests.hooks.test_feature_pruning import featured
from tests.support.views import shown


def test_pivots_and_what_is_unlike_them() -> None:
    axes = torch.eye(16)
    states = axes[[9, 0, 0, 1, 1, 2, 3, 9]][None].clone()
    states[0, 1] *= 3  # the media pivot
    states[0, 0] = 5 * axes[1]  # the text pivot
    view = replace(featured("tvvvvvvt"), hidden_states=states)
    hook = Dart(0.5, media_pivots=1, text_pivots=1)
    assert shown(hook(view), view.modality) == ["tv---vvt"]
    without = Dart(0.5, media_pivots=1, text_pivots=0)
    assert shown(without(view), view.modality) == ["tv-vv--t"]
    none = Dart(0.5, media_pivots=0, text_pivots=0)
    assert shown(none(view), view.modality) == ["tvvv---t"]


def test_settings() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=9)
    made = Dart.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, None)
    assert Dart().layers(28) == {2}
    assert Dart().layers(2) == {1}
    assert Dart(layer=5).layers(28) == {5}
    assert Dart(layer=ENTRANCE).layers(28) == {ENTRANCE}
    for name, value in (("layer", -2), ("media_pivots", -1), ("text_pivots", 1.5)):
        with pytest.raises(ConfigError, match=f"`{name}`.*{value}"):
            Dart(**{name: value})  # type: ignore[arg-type]
