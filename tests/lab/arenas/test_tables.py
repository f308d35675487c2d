"""Tables hold every registered method, at the tokens that their title says."""

from __future__ import annotations

import pytest

from fastav_plugin.analysis import BUDGETS
from fastav_plugin.hooks.registry import METHODS
from fastav_plugin.lab.arenas import KEYS
from fastav_plugin.lab.arenas.setting import TOLERANCE, Setting, Sizes, find_settings
from fastav_plugin.lab.arenas.studies import QUICK
from fastav_plugin.lab.arenas.tables import make_tables
from tests.support.tiny_arena import TinyArena

#: In the tables under another name, or the control itself.
ELSEWHERE = {"none", "random", "fine_pruning", "late_removal", "global_pruning"}


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    arena = TinyArena.make()
    return Sizes(arena, arena.questions(2, 0))


def test_every_key_is_a_table_and_labels_are_unique(sizes: Sizes) -> None:
    keys = [*KEYS, QUICK]
    tables = make_tables(keys, 30, sizes.maps[0])
    assert [table.key for table in tables] == keys
    for table in tables:
        labels = [spec.label for spec in table.specs]
        assert len(labels) == len(set(labels)) > 2


@pytest.mark.parametrize("budget", BUDGETS)
def test_methods_join_by_themselves_at_the_tokens_asked_for(sizes: Sizes, budget: float) -> None:
    [table] = make_tables([f"methods-{100 * budget:.0f}"], sizes.layers, sizes.maps[0])
    labels = {spec.label for spec in table.specs}
    assert set(METHODS) - ELSEWHERE <= labels
    found, left_out = find_settings(table, sizes)
    assert {setting.spec.label for setting in found} | set(left_out) == labels
    assert len(found) > 3
    for setting in found:
        if not setting.spec.measured:
            tokens = sizes.plan(setting.spec.config(setting.value))
            assert abs(tokens / sizes.dense - budget) <= TOLERANCE


def test_what_cannot_cost_so_little_is_left_out_with_what_it_reaches(sizes: Sizes) -> None:
    [table] = make_tables(["methods-25"], sizes.layers, sizes.maps[0])
    _, left_out = find_settings(table, sizes)
    # A cut at the middle layer leaves what the layers below saw.
    assert "% of dense's tokens" in left_out["low_attentive"]


def test_equal_settings_have_equal_digests(sizes: Sizes) -> None:
    tables = make_tables(["p-by-layer", "second-question"], sizes.layers, sizes.maps[0])
    by_label: dict[str, Setting] = {}
    for table in tables:
        by_label |= {setting.spec.label: setting for setting in find_settings(table, sizes)[0]}
    digests = {label: setting.digest for label, setting in by_label.items()}
    one = digests.pop("P 20 % after layer 2")
    assert one not in digests.values()
    again = find_settings(make_tables(["p-by-layer"], sizes.layers, sizes.maps[0])[0], sizes)[0]
    assert one in [setting.digest for setting in again]
