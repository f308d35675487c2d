"""Ablations: the low-attentive cut, and late removal."""

import pytest

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import LateRemoval, LowAttentive
from tests.support.views import make_view, modalities, shown


def test_layers_entered() -> None:
    assert LowAttentive().layers(28) == {14}
    assert LateRemoval().layers(28) == {23}
    assert LateRemoval().layers(48) == {39}
    assert LateRemoval().layers(2) == {1}


def test_late_removal_drops_all_media_and_nothing_else() -> None:
    modality = modalities("tvivat", "...ttt")
    assert LateRemoval.may_empty
    assert shown(LateRemoval()(make_view(modality)), modality) == ["t----t", "...ttt"]


def test_from_config() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    made = LowAttentive.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, 4)


@pytest.mark.parametrize("depth", [0, 1.0])
def test_wrong_depths(depth: float) -> None:
    with pytest.raises(ConfigError, match="`depth` must lie in"):
        LateRemoval(depth)
