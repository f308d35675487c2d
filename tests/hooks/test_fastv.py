"""FastV."""

import pytest

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import FastV


def test_the_layer_entered() -> None:
    assert FastV().layers(28) == {2}
    assert FastV(layer=5).layers(28) == {5}
    assert FastV().layers(2) == {1}
    with pytest.raises(ConfigError, match=r"\[1, 5\].*got 6"):
        FastV(layer=6).layers(6)


def test_a_config_gives_the_ratios_and_not_the_layer() -> None:
    config = FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    made = FastV.from_config(config)
    assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("visual_keep_ratio", 0),
        ("visual_keep_ratio", "x"),
        ("audio_keep_ratio", 1.5),
        ("layer", 0),
        ("layer", 1.5),
    ],
)
def test_wrong_settings(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"`{field}`.*{value!r}"):
        FastV(**{field: value})  # type: ignore[arg-type]
