"""The order in which settings are tried, against measuring all of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.calibration.candidates import Candidate
from fastav_plugin.calibration.fidelity import Fidelity, FidelitySearch
from fastav_plugin.evaluation.bootstrap import bootstrap_mean

PROMPTS = 12
Row = st.tuples(
    st.sampled_from((0.1, 0.2, 0.3, 0.5)),
    st.lists(st.floats(0, 2), min_size=PROMPTS, max_size=PROMPTS),
)


class Known(FidelitySearch):
    """A search among settings whose costs and KLs are known."""

    SCREENING, GROUP = 3, 4

    def go(self, rows: list[tuple[float, list[float]]], most: int = 10_000) -> int:
        """Take steps; returns how often a setting was tried."""
        tried = 0
        for _ in range(most):
            step = self.next_step()
            if step is None:
                break
            prompt, indexes = step
            assert all(len(self._own(index)) == prompt for index in indexes)
            found = {i: Fidelity(rows[i][1][prompt], 1.0, rows[i][0], 5.0, True) for i in indexes}
            self.answers.append(found)
            tried += len(indexes)
        return tried


def make(count: int, limit: float, *, full: bool = False) -> Known:
    candidates = [Candidate(1, {"video": "all"}, 0.1, "all") for _ in range(count)]
    return Known(candidates, range(PROMPTS), limit, full=full)


@settings(max_examples=80, deadline=None)
@given(st.lists(Row, min_size=1, max_size=15), st.floats(0, 1.5), st.integers(0, 20))
def test_it_finds_what_measuring_all_finds(
    rows: list[tuple[float, list[float]]], limit: float, stopped: int
) -> None:
    every, search, resumed = make(len(rows), limit, full=True), make(len(rows), limit), None
    assert every.go(rows) == len(rows) * PROMPTS
    tried = search.go(rows)
    assert tried <= len(rows) * PROMPTS
    assert search.cheapest() == every.cheapest()
    first = make(len(rows), limit)
    first.go(rows, stopped)
    resumed = make(len(rows), limit)
    resumed.answers = first.answers
    resumed.go(rows)
    assert resumed.answers == search.answers


def test_where_all_pass_few_are_measured_to_the_end() -> None:
    rows = [(cost / 100, [0.0] * PROMPTS) for cost in range(1, 41)]
    search = make(40, 1.0)
    assert search.go(rows) == 40 * 3 + 4 * 9
    assert search.cheapest() == 0


def test_where_none_can_pass_it_ends_early() -> None:
    search = make(5, 0.01)
    assert search.go([(0.5, [1.0] * PROMPTS)] * 5) == 5
    assert search.cheapest() is None


def test_a_mean_that_one_prompt_decides_is_no_promise() -> None:
    """Cheap ones whose mean is within the limit and whose interval is not, in a group of theirs."""
    heavy = (0.1, [0.0] * 9 + [0.9, 0.0, 0.0])
    rows = [heavy] * 4 + [(0.5, [0.08] * PROMPTS)]
    search = make(5, 0.1)
    search.go(rows)
    assert search.tally(0).kl == pytest.approx(0.075)
    assert search.tally(0).kl_high > 0.1
    assert search.cheapest() == 4
    assert search.tally(4).kl_high == pytest.approx(0.08)
    none = make(4, 0.1)
    none.go(rows[:4])
    assert none.cheapest() is None


def test_a_stricter_setting_must_pass_too() -> None:
    """The cheapest is clean here by luck, and so is no reason for the next one's neighbour."""
    grid = [(2, 0.4), (2, 0.2), (2, 0.1), (4, 0.2), (4, 0.1)]
    candidates = [Candidate(layer, {"video": "all"}, ratio, "all") for layer, ratio in grid]
    clean, failing = [0.0] * PROMPTS, [0.0] * 9 + [9.0, 0.0, 0.0]
    rows = [(0.1, failing), (0.2, clean), (0.3, clean), (0.4, clean), (0.5, clean)]

    def choose(supported: bool, rows: list[tuple[float, list[float]]]) -> int | None:
        search = Known(candidates, range(PROMPTS), 0.1, supported=supported)
        search.go(rows)
        return search.cheapest()

    assert choose(False, rows) == 1
    assert choose(True, rows) == 2  # (2, 0.2) passes and is stricter
    # The strictest of all has none that could support it.
    assert choose(True, [(0.1, clean), *rows[1:]]) == 0
    assert choose(True, [rows[0], (0.2, failing), *rows[2:]]) == 4


def test_settings_that_pass_where_no_stricter_one_does_are_counted() -> None:
    candidates = [Candidate(2, {"video": "all"}, ratio, "all") for ratio in (0.4, 0.2)]
    for supported, left in ((True, (None, 1)), (False, (1, 0))):
        search = Known(candidates, range(PROMPTS), 0.1, supported=supported)
        search.go([(0.1, [9.0] * PROMPTS), (0.2, [0.0] * PROMPTS)])
        assert (search.cheapest(), search.unsupported()) == left


def test_stricter_settings() -> None:
    one = Candidate(4, {"video": "all"}, 0.2, "all")
    assert Candidate(3, {"video": "all"}, 0.2, "all").is_stricter(one)
    assert Candidate(4, {"video": "all"}, 0.4, "all").is_stricter(one)
    assert not one.is_stricter(one)
    assert not Candidate(3, {"video": "all"}, 0.1, "all").is_stricter(one)
    assert not Candidate(3, {"video": "first 3 tokens"}, 0.2, "tokens").is_stricter(one)


def test_prompts_about_the_same_media_are_resampled_together() -> None:
    values = [0.0, 0.1, 0.4, 0.2, 0.0, 0.3] * 2
    media = [index // 3 for index in range(PROMPTS)]
    search = Known([Candidate(1, {}, 0.1, "all")], media, 1.0)
    search.go([(0.5, values)])
    found, wanted = search.tally(0), bootstrap_mean(values, media)
    assert (found.kl, found.kl_low, found.kl_high) == (wanted.mean, wanted.low, wanted.high)
