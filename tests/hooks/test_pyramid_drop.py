"""PyramidDrop."""

from fastav_plugin import FastAVConfig
from fastav_plugin.hooks import PyramidDrop


def test_each_quarter_is_a_stage() -> None:
    assert PyramidDrop().layers(32) == {8, 16, 24}
    assert PyramidDrop().layers(28) == {7, 14, 21}
    assert PyramidDrop().layers(3) == {1, 2}


def test_from_config() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    made = PyramidDrop.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio) == (0.3, 0.2)
    assert made.layers(28) == {7, 14, 21}
