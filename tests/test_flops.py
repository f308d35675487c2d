"""The published numbers, from token counts alone and from a real tiny model's schedule."""

from functools import cache
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, TokenMap
from fastav_plugin.flops import prefill_macs
from tests.support.cache_names import passing

LAYERS = 28
FASTAV_COUNTS = [2222] * 14 + [736, 598, 488, 400, 330, 274, 229, 193, 164, 141, 122, 107, 95, 86]
VIDEOLLAMA2_RULE = {"video": "all", "audio": "first 10 tokens"}
IMAGE_TEXT = [15, 15, 23, 83, 25, 113, 15, 39, 21, 91, 57]
LLAVA_NEXT = [2225, 1922, 2239, 1927, 2108, 1882, 2292, 2249, 2250, 1598, 2116]


def percent(counts: list[int], length: int) -> float:
    """Per cent of dense, for the shape of Qwen2-7B under the papers' formula."""
    pruned = prefill_macs(counts, hidden_size=3584, intermediate_size=18944)
    dense = prefill_macs([length] * len(counts), hidden_size=3584, intermediate_size=18944)
    return 100 * pruned / dense


@cache
def tiny_model() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    model: Any = Qwen2ForCausalLM(config)
    return model.eval()


def schedule(tokens: TokenMap, config: FastAVConfig) -> list[int]:
    """Tokens in each layer of a real prefill."""
    ids = torch.arange(tokens.length)[None] % 64
    past: Any = FastAVCache(config, tokens)
    with torch.inference_mode():
        tiny_model()(input_ids=ids, **passing(past), logits_to_keep=1)
    counts: list[int] = past.report().tokens_per_layer
    for layer, count in zip(past.layers, counts, strict=True):
        assert layer.keys.shape[-2] == count
    return counts


def videollama2() -> TokenMap:
    return TokenMap.from_spans(2222, video=[(14, 690)], audio=[(690, 2186)])


def test_the_formula() -> None:
    n, d, m = 11, 6, 20
    one = prefill_macs([n], hidden_size=d, intermediate_size=m)
    assert one == 4 * n * d * d + 2 * n * n * d + 3 * n * d * m
    two = prefill_macs([n], hidden_size=d, intermediate_size=m, kv_size=2, mlp_matrices=2)
    assert two == 2 * n * d * (d + 2) + 2 * n * n * d + 2 * n * d * m
    assert prefill_macs([], hidden_size=d, intermediate_size=m) == 0
    assert prefill_macs([n, 0, n], hidden_size=d, intermediate_size=m) == 2 * one


@pytest.mark.parametrize("sizes", [{"hidden_size": -1}, {"intermediate_size": -1}, {"kv_size": -1}])
def test_negative_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        prefill_macs([1], **{"hidden_size": 4, "intermediate_size": 4, **sizes})
    with pytest.raises(ConfigError):
        prefill_macs([1, -1], hidden_size=4, intermediate_size=4)


def test_videollama2_has_the_published_schedule() -> None:
    counts = schedule(
        videollama2(), FastAVConfig(global_rule=VIDEOLLAMA2_RULE, fine_drop_ratio=0.2)
    )
    assert counts == FASTAV_COUNTS
    assert percent(counts, 2222) == pytest.approx(56.1, abs=0.1)


@pytest.mark.parametrize(("ratio", "expected"), [(0, 65.9), (0.1, 59.1), (0.2, 56.1), (0.3, 54.5)])
def test_the_sweep_over_the_drop_ratio(ratio: float, expected: float) -> None:
    config = FastAVConfig(global_rule=VIDEOLLAMA2_RULE, fine_drop_ratio=ratio)
    assert percent(schedule(videollama2(), config), 2222) == pytest.approx(expected, abs=0.1)


def test_video_salmonn2() -> None:
    spans = [(40 + 182 * frame, 40 + 182 * (frame + 1)) for frame in range(10)]
    # Each frame is 169 video tokens and the 13 audio tokens that sound with it.
    video = [(start, start + 169) for start, _ in spans]
    audio = [(start + 169, stop) for start, stop in spans]
    tokens = TokenMap.from_spans(1880, video=video, audio=audio)
    frame = tokens.frame.clone()
    for number, (start, stop) in enumerate(spans):
        frame[0, start:stop] = number
    config = FastAVConfig(global_rule="first 4 frames", fine_drop_ratio=0.2)
    counts = schedule(tokens.with_frames(frame), config)
    assert counts[13:15] == [1880, 788]
    assert percent(counts, 1880) == pytest.approx(57.8, abs=0.1)


@pytest.mark.parametrize(
    ("method", "audio_ratio", "expected"),
    [
        ("divprune", 0.5, 49.7),
        ("fastav+divprune", 0.5, 28.4),
        ("divprune", None, 84.0),
        ("fastav+divprune", None, 45.6),
    ],
)
def test_composition_on_the_videollama2_input(
    method: str, audio_ratio: float | None, expected: float
) -> None:
    config = FastAVConfig(
        method=method,
        global_rule=VIDEOLLAMA2_RULE,
        fine_drop_ratio=0.2,
        visual_keep_ratio=0.5,
        audio_keep_ratio=audio_ratio,
    )
    counts = schedule(videollama2(), config)
    assert counts[0] == 50 + 338 + (748 if audio_ratio else 1496)
    assert percent(counts, 2222) == pytest.approx(expected, abs=0.1)


def divprune_percent(
    visual: list[int], text: list[int], *, hidden: int, mlp: int, layers: int, removed: float
) -> float:
    """Mean over tasks of pruned over dense, with two MLP matrices as DivPrune's paper counts."""

    def macs(tokens: int) -> int:
        return prefill_macs(
            [tokens] * layers, hidden_size=hidden, intermediate_size=mlp, mlp_matrices=2
        )

    ratios = [
        macs(words + seen - round(removed * seen)) / macs(words + seen)
        for words, seen in zip(text, visual, strict=True)
    ]
    return 100 * sum(ratios) / len(ratios)


@pytest.mark.parametrize(
    ("visual", "text", "shape", "ratio", "expected"),
    [
        ([576] * 11, IMAGE_TEXT, (4096, 11008, 32), 0.098, 15.63),
        ([576] * 11, IMAGE_TEXT, (5120, 13824, 40), 0.098, 15.71),
        (LLAVA_NEXT, IMAGE_TEXT, (4096, 11008, 32), 0.098, 10.80),
        ([1152] * 5, [28, 63, 21, 38, 196], (4096, 11008, 32), 0.1, 14.10),
    ],
)
def test_divprune_under_its_papers_formula(
    visual: list[int], text: list[int], shape: tuple[int, int, int], ratio: float, expected: float
) -> None:
    hidden, mlp, layers = shape
    got = divprune_percent(visual, text, hidden=hidden, mlp=mlp, layers=layers, removed=1 - ratio)
    assert got == pytest.approx(expected, abs=0.1)
