"""Ablations: the low-attentive cut, and late removal."""

import pytest

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import LateRemoval, LowAttentive
from tests.support.cases import (
    assert_close,
    config_of,
    held_of,
    media_in,
    prune,
    reference,
    rows_of,
)
from tests.support.family_configs import LAYERS
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


@pytest.mark.parametrize(
    "method", ["fastav", "divprune", "omnipack", "macer", "scope", "cdpruner", "dart", "fastv"]
)
def test_late_removal_follows_any_method(method: str) -> None:
    """The method's cuts stay, the last layer has no media, and the whole equals masked dense."""
    name = "llama_text"
    settings = {"visual_keep_ratio": 0.4, "audio_keep_ratio": 0.6, "fine_drop_ratio": 0.2}
    items = rows_of(name, "single")
    alone = prune(name, "sdpa", items, config_of(name, method, **settings), steps=2)
    joined = f"{method}+late_removal"
    result = prune(name, "sdpa", items, config_of(name, joined, **settings), steps=2)
    assert_close(result.run.logits, reference(name, "sdpa", items, result).logits)
    (layer,) = LateRemoval().layers(LAYERS)
    before, after = held_of(alone, 0, items[0]), held_of(result, 0, items[0])
    assert after[:layer] == before[:layer]
    assert all(media_in(items[0], rows) == [] for rows in after[layer:])
    assert media_in(items[0], before[-1])
