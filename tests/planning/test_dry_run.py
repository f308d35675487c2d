"""Counts of a dry run follow from the rules alone."""

from __future__ import annotations

from typing import Any

import pytest

from fastav_plugin import ConfigError, FastAVConfig, Modality, TokenMap
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens
from fastav_plugin.pruning.prompt import Reason

PROMPT = PromptSize(text=20, video=40, audio=30, frames=4)


def plan(config: FastAVConfig, tokens: TokenMap, layers: int = 6) -> tuple[list[list[int]], Any]:
    return plan_tokens(config, tokens, layers)


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        ((), (0, 676, 1496)),
        ((Modality.IMAGE, Modality.VIDEO, Modality.AUDIO), (0, 676, 1496)),
        ((Modality.IMAGE, Modality.VIDEO), (0, 676, 0)),
        ((Modality.IMAGE, Modality.AUDIO), (576, 0, 1496)),
        ((Modality.IMAGE,), (576, 0, 0)),
        ((Modality.AUDIO,), (0, 0, 1496)),
    ],
)
def test_a_typical_prompt(kinds: tuple[Modality, ...], counts: tuple[int, ...]) -> None:
    prompt = PromptSize.of_kinds(kinds)
    assert (prompt.image, prompt.video, prompt.audio) == counts


def test_a_prompt_of_a_size() -> None:
    (kinds,) = PromptSize(text=20, image=5, video=40, audio=30).token_map().modality.tolist()
    counts = {kind: kinds.count(int(kind)) for kind in Modality}
    assert counts == {
        Modality.PADDING: 0,
        Modality.TEXT: 20,
        Modality.IMAGE: 5,
        Modality.VIDEO: 40,
        Modality.AUDIO: 30,
    }
    assert kinds[-1] == Modality.TEXT
    assert sorted(kinds[10:85]) == kinds[10:85]


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (PromptSize(text=0, video=0, audio=0), "at least one token"),
        (PromptSize(video=10, frames=3), "10 video tokens cannot be split into 3 equal frames"),
    ],
)
def test_sizes_of_no_prompt(size: PromptSize, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        size.token_map()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "none"}, [90] * 6),
        ({"global_rule": "first 10 tokens"}, [90, 90, 90, 40, 38, 36]),
        ({"global_rule": {"video": "first 1 frames", "audio": "all"}}, [90, 90, 90, 60, 56, 52]),
        ({"global_rule": "first 10 tokens", "global_layer": 1}, [90, 40, 38, 36, 34, 32]),
        ({"method": "divprune", "visual_keep_ratio": 0.25}, [60] * 6),
        ({"method": "divprune", "audio_keep_ratio": 0.1}, [43] * 6),
    ],
)
def test_counts(changes: dict[str, Any], expected: list[int]) -> None:
    config = FastAVConfig(**changes, fine_drop_ratio=0.1, min_media_tokens=0)
    assert plan(config, PROMPT.token_map())[0] == [expected]


def test_why_nothing_is_cut() -> None:
    few = PromptSize(text=20, video=4, audio=0).token_map()
    counts, reason = plan(FastAVConfig(), few)
    assert counts == [[24] * 6]
    assert reason is Reason.FEW_MEDIA
    counts, reason = plan(FastAVConfig(global_rule="first 10 tokens"), PROMPT.token_map())
    assert counts[0][-1] < 90
    assert reason is None


def test_a_batch_is_planned_prompt_by_prompt() -> None:
    config = FastAVConfig(global_rule="first 10 tokens", min_media_tokens=0)
    maps = [PROMPT.token_map(), PromptSize(text=7, video=0, audio=0).token_map()]
    together, _ = plan(config, TokenMap.batch(maps))
    assert together == [plan(config, one)[0][0] for one in maps]
