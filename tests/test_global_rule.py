"""The rule of the global cut as a value."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin import ConfigError
from fastav_plugin.global_rule import GlobalRule, read_rules, rules_by_modality

RULES = {
    "all": GlobalRule("all"),
    "first 10 tokens": GlobalRule("tokens", 10),
    "first 4 frames": GlobalRule("frames", 4),
    "below 750": GlobalRule("below", 750),
}


@pytest.mark.parametrize("text", RULES)
def test_a_rule_is_read_and_written(text: str) -> None:
    assert GlobalRule.parse(text) == RULES[text]
    assert str(RULES[text]) == text


@pytest.mark.parametrize("wrong", ["", "All", "first 4 frame", "below -1", "below 750 ", 750, None])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="`it` must be 'all', 'first N tokens'") as caught:
        GlobalRule.parse(wrong, "`it`")
    assert repr(wrong) in str(caught.value)


def test_rules_of_all_modalities() -> None:
    assert set(rules_by_modality("below 750").values()) == {RULES["below 750"]}
    found = rules_by_modality({"audio": "first 10 tokens"})
    assert {name: str(rule) for name, rule in found.items()} == {
        "image": "all",
        "video": "all",
        "audio": "first 10 tokens",
    }
    with pytest.raises(ConfigError, match="'speech'"):
        rules_by_modality({"speech": "all"})


def test_rules_of_a_command_line() -> None:
    assert read_rules(" below 750 ") == "below 750"
    both = read_rules("video=all, audio = first 10 tokens")
    assert both == {"video": "all", "audio": "first 10 tokens"}


@given(
    st.sampled_from(["tokens", "frames", "below"]),
    st.lists(st.booleans(), min_size=1, max_size=30).filter(any),
    st.integers(0, 40),
)
def test_more_is_kept_for_a_higher_number_and_all_for_the_highest(
    counts: str, marks: list[bool], number: int
) -> None:
    candidates = torch.tensor([marks])
    positions = torch.arange(len(marks))[None]
    frame = torch.where(candidates, positions // 3, -1)

    def kept(rule: GlobalRule) -> torch.Tensor:
        return candidates & rule.keeps(candidates, candidates, positions, frame)

    rule = GlobalRule(counts, number)
    highest = rule.highest(candidates, frame)
    assert (kept(rule) <= kept(GlobalRule(counts, number + 1))).all()
    assert torch.equal(kept(GlobalRule(counts, highest)), candidates)
    assert str(rule.scaled(highest, highest)) == "all"
    assert rule.scaled(number, number + 1) == rule
    assert GlobalRule("all").scaled(3, 5) == GlobalRule("tokens", 3)
    assert rule.times(4) == GlobalRule(counts, max(1, 4 * number))
    assert GlobalRule("all").times(4) == GlobalRule("all")
    none = GlobalRule(counts, 0)
    assert not kept(none).any()
