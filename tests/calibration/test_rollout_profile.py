"""What is read of the rollout, against matrices that are really multiplied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap, UnsupportedError, detach
from fastav_plugin.calibration.plan import READ
from fastav_plugin.calibration.rollout_profile import (
    SHARES,
    Observed,
    RolloutObserver,
    RolloutProfile,
)
from fastav_plugin.tokens import Modality
from tests.calibration.prompts import NoisySource, observed
from tests.support.cache_names import passing

TEXT, VIDEO, AUDIO = Modality.TEXT, Modality.VIDEO, Modality.AUDIO


def observe(model: Any, inputs: dict[str, Any], alpha: float = 0.5) -> Observed:
    observer = RolloutObserver(alpha)
    cache = FastAVCache(FastAVConfig(hooks=[observer], min_media_tokens=1))
    with torch.no_grad():
        model(**inputs, **passing(cache))
    detach(model)
    assert observer.observed is not None
    return observer.observed


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_the_rollout_of_every_depth(model: Any, processor: Any, alpha: float) -> None:
    inputs = NoisySource(processor).inputs(2)
    seen = observe(model, inputs, alpha)
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            maps = model(**inputs, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(implementation)
    length = inputs["input_ids"].shape[1]
    product = torch.eye(length, dtype=torch.float64)
    for depth, attention in enumerate(maps[:-1]):
        mixed = alpha * attention[0].double().mean(dim=0)
        product = (mixed + (1 - alpha) * torch.eye(length)) @ product
        torch.testing.assert_close(seen.rollout[0, depth], product[-1].float())
        torch.testing.assert_close(seen.rollout[1, depth], product.sum(dim=0).float())
    assert seen.rollout.shape == (2, len(maps) - 1, length)
    ids = inputs["input_ids"][0]
    assert torch.equal(seen.modality == int(VIDEO), ids == model.config.video_token_id)
    assert seen.offset.tolist() == list(range(length))


def test_prompts_count_alike_whatever_their_mass_and_length() -> None:
    profile = RolloutProfile()
    profile.add(observed((TEXT, [5.0]), (VIDEO, [3.0, 1.0]), (AUDIO, [1.0])))
    profile.add(observed((TEXT, [5.0]), (VIDEO, [0.1, 0.1, 0.1, 0.1])))
    assert profile.modalities == ["video", "audio"]
    for read in READ:
        assert profile.mean("video", read, 1).tolist() == [0.5, 0.25, 0.125, 0.125]
        assert profile.mean("audio", read, 1).tolist() == [1.0]
        kinds = profile.mean("modality", read, 1)  # text, image, video, audio
        torch.testing.assert_close(kinds[0].item(), (0.5 + 5 / 5.4) / 2)
        assert kinds.sum().item() == pytest.approx(1)
    means = profile.results()
    assert means["profile.last_row.video"].shape == (1, 4)
    again = RolloutProfile(dict(profile.sums))
    assert torch.equal(again.mean("video", "last_row", 1), profile.mean("video", "last_row", 1))


def test_curves_by_hand() -> None:
    profile = RolloutProfile()
    profile.add(observed((VIDEO, [0.0, 1, 0, 3, 0, 0, 0, 0, 0, 0])))
    found = profile.results()
    at = {round(share, 2): index for index, share in enumerate(SHARES)}
    top, first = found["curve.last_row.top"][0], found["curve.last_row.first"][0]
    assert [float(top[at[share]]) for share in (0.05, 0.1, 0.2, 1.0)] == [0.75, 0.75, 1, 1]
    assert [float(first[at[share]]) for share in (0.1, 0.2, 0.3, 0.4)] == [0, 0.25, 0.25, 1]


def test_the_layer_from_which_on_nothing_moves() -> None:
    video = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.61, 0.39], [0.6, 0.4]])
    kinds = torch.full((2,), int(VIDEO))
    seen = Observed(video.expand(2, -1, -1), kinds, torch.full((2,), -1), torch.arange(2))
    profile = RolloutProfile()
    profile.add(seen)
    assert profile.change("last_row") == pytest.approx([0.4, 0.3, 0.01, 0.01])
    assert profile.stable_from("last_row", 0.05) == 3
    assert profile.stable_from("last_row", 0.5) == 1
    assert profile.stable_from("last_row", 0.005) is None


def test_prompts_without_media_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="without media"):
        RolloutProfile().add(observed((TEXT, [1.0, 2.0])))


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


def test_observing_takes_memory_in_proportion_to_the_prompt() -> None:
    """No tensor on the way grows faster than the prompt, from the first layer to the profile."""
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=2048,
    )
    model = LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    sizes = []
    for length in (512, 2048):
        observer = RolloutObserver()
        tokens = TokenMap.from_spans(
            length, video=[(4, length // 2)], audio=[(length // 2, length)]
        )
        cache = FastAVCache(FastAVConfig(hooks=[observer]), tokens)
        with torch.no_grad(), Largest() as largest:
            model(torch.ones((1, length), dtype=torch.int64), **passing(cache))
            assert observer.observed is not None
            RolloutProfile().add(observer.observed)
        sizes.append(largest.numel)
    assert sizes[1] <= 4 * sizes[0]
    assert sizes[1] < 2048**2 / 2
