"""Settings, tables and their cost, without a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.hooks import method_hooks
from fastav_plugin.lab.papers import KEYS
from fastav_plugin.lab.papers.base import Base, scale_rule
from fastav_plugin.lab.papers.setting import CLOSE, Hooks, PaperSetting, solve, solve_all
from fastav_plugin.lab.papers.tables import COMPOSED, FASTAV, suite
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens

LAYERS = 8
RULES = {"video": "first 16 tokens", "audio": "first 10 tokens"}
CONFIG = FastAVConfig(
    global_layer=5,
    global_rule=RULES,
    fine_drop_ratio=0.2,
    visual_keep_ratio=0.25,
    audio_keep_ratio=0.25,
)
PROMPT = PromptSize(text=13, video=128, audio=200, frames=8).token_map()
BASE = Base(CONFIG, LAYERS, PROMPT)


def average(config: FastAVConfig) -> float:
    (counts,), _ = plan_tokens(config, PROMPT, LAYERS)
    return sum(counts) / len(counts)


def test_every_row_of_every_table_is_a_setting_that_can_be_built() -> None:
    settings, tables = suite(BASE)
    names = [setting.name for setting in settings]
    assert len(names) == len(set(names))
    assert tuple(table.key for table in tables) == KEYS
    assert {name for table in tables for _, name in table.rows} <= set(names)
    for table in tables:
        labels = [label for label, _ in table.rows]
        assert len(labels) == len(set(labels))
    for index, setting in enumerate(settings):
        assert setting.like is None or setting.like in names[:index]
        for value in setting.values:
            assert method_hooks(setting.config(value))


def test_methods_see_as_many_tokens_as_what_they_are_compared_with() -> None:
    settings, tables = suite(BASE)
    wanted = {name for table in tables[:2] for _, name in table.rows} | {FASTAV, COMPOSED}
    found = solve_all([s for s in settings if s.name in wanted], average, average)
    # A cut before the layer, or one of whole layers, reaches no such cost exactly.
    coarse = ("vtw", "fastv", "pyramid_drop", "seats")
    for name, solved in found.items():
        assert average(solved.config) == solved.tokens
        if solved.wanted is not None:
            miss = abs(solved.tokens - solved.wanted)
            assert miss < (45 if name.startswith(coarse) else 1.5), name


@pytest.mark.parametrize("wanted", [3.0, 40.0, 97.0])
def test_bisection_finds_the_nearest_value(wanted: float) -> None:
    made: list[float] = []
    found = solve(
        PaperSetting("a", _noting(made), "b", (0.0, 1.0)), lambda _: 100 * made[-1] ** 2, wanted
    )
    assert found.value is not None
    assert abs(100 * found.value**2 - wanted) <= CLOSE


def test_whole_layers_are_all_tried() -> None:
    made: list[float] = []
    setting = PaperSetting("a", _noting(made), "b", (1, 2, 3, 4))
    assert solve(setting, lambda _: 10 * made[-1], 26).value == 3


def _noting(values: list[float]) -> Callable[[float], Hooks]:
    """No hooks for any value, which is written down."""

    def make(value: float) -> Hooks:
        values.append(value)
        return []

    return make


def test_rules_are_scaled() -> None:
    rules = {"video": "first 16 tokens", "audio": "below 10", "image": "all"}
    assert scale_rule(rules, 2) == {"video": "first 32 tokens", "audio": "below 20", "image": "all"}
    assert scale_rule(rules, 0.001)["video"] == "first 1 tokens"
    assert BASE.first(0.5) == {"video": "first 64 tokens", "audio": "first 100 tokens"}
