"""Control baselines: random and evenly spaced tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import ENTRANCE, RandomPruning, UniformStride
from tests.support.views import make_view, modalities, shown


def test_uniform_stride() -> None:
    view = make_view(modalities("tvvvvvvaaaat"))
    assert shown(UniformStride(0.5)(view), view.modality) == ["t-v-v-vaaaat"]
    assert shown(UniformStride(1 / 3, 0.5)(view), view.modality) == ["t--v--v-a-at"]
    assert UniformStride(layer=ENTRANCE).layers(8) == {ENTRANCE}


def test_random_follows_seed_prompt_and_position_only() -> None:
    alone = make_view(modalities("t" + "v" * 40 + "t"))
    padded = make_view(modalities("...t" + "v" * 40 + "t", "t" + "v" * 43 + "t"))
    hook = RandomPruning(0.5, seed=3)
    prompt = torch.tensor([17])
    one = hook(replace(alone, fingerprint=prompt))
    two = hook(replace(padded, fingerprint=torch.tensor([17, 99])))
    assert one is not None and two is not None
    assert torch.equal(two[:1, 3:], one)
    torch.manual_seed(1)
    again = hook(replace(alone, fingerprint=prompt))
    assert again is not None and torch.equal(again, one)
    others = [
        RandomPruning(0.5, seed=4)(replace(alone, fingerprint=prompt)),
        hook(replace(alone, fingerprint=prompt + 1)),
        hook(alone),
    ]
    for other in others:
        assert other is not None and other.sum() == one.sum()
        assert not torch.equal(other, one)


def test_random_is_fair() -> None:
    view = make_view(modalities("v" * 50).expand(400, -1))
    kept = RandomPruning(0.3)(replace(view, fingerprint=torch.arange(400)))
    assert kept is not None
    shares = kept.double().mean(dim=0)
    assert (kept.sum(dim=1) == 15).all()
    # Five standard deviations of a mean of 400 draws.
    assert ((shares - 0.3).abs() < 5 * (0.3 * 0.7 / 400) ** 0.5).all()


@pytest.mark.parametrize("control", [RandomPruning, UniformStride])
def test_settings(control: type[RandomPruning | UniformStride]) -> None:
    made = control.from_config(
        FastAVConfig(visual_keep_ratio=0.3, audio_keep_ratio=0.2, global_layer=4)
    )
    assert (made.visual_keep_ratio, made.audio_keep_ratio, made.layer) == (0.3, 0.2, 4)
    assert control().layers(28) == {14}
    assert control(layer=ENTRANCE).layers(28) == {ENTRANCE}
    with pytest.raises(ConfigError, match="`layer`.*got -2"):
        control(layer=-2)
