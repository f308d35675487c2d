"""VTW."""

import pytest

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import VTW
from tests.support.views import make_view, modalities, shown


def test_all_media_are_dropped_and_nothing_else() -> None:
    modality = modalities("tvivat", "...ttt")
    assert VTW.may_empty
    assert shown(VTW()(make_view(modality)), modality) == ["t----t", "...ttt"]


def test_the_layer_entered() -> None:
    assert VTW().layers(28) == {14}
    assert VTW.from_config(FastAVConfig(global_layer=4)).layer == 4
    with pytest.raises(ConfigError, match="`layer`.*got 0"):
        VTW(0)
