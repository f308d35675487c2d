from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.bootstrap import bootstrap_mean

Values = st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(Values)
def test_an_interval_lies_between_the_group_means(pairs: list[tuple[float, int]]) -> None:
    values, groups = (list(column) for column in zip(*pairs, strict=True))
    found = bootstrap_mean(values, groups)
    assert found.mean == pytest.approx(np.mean(values))
    means = [np.mean([v for v, g in pairs if g == group]) for group in set(groups)]
    assert min(means) - 1e-9 <= found.low <= found.high <= max(means) + 1e-9


def test_the_width_is_that_of_the_standard_error() -> None:
    values = [float(value) for value in np.random.default_rng(1).random(400) < 0.8]
    found = bootstrap_mean(values, range(400))
    error = np.std(values) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_values_of_one_group_count_once() -> None:
    values = [float(value) for value in np.random.default_rng(2).random(50) < 0.5]
    alone = bootstrap_mean(values, range(50))
    tripled = bootstrap_mean(values * 3, [*range(50)] * 3)
    assert tripled == alone
    careless = bootstrap_mean(values * 3, range(150))
    assert careless.high - careless.low < 0.7 * (alone.high - alone.low)


def test_the_seed_decides() -> None:
    values = [float(value) for value in np.random.default_rng(3).random(40)]
    found = bootstrap_mean(values, range(40), seed=3)
    assert found == bootstrap_mean(values, [f"clip {i}" for i in range(40)], seed=3)
    assert found != bootstrap_mean(values, range(40), seed=4)


def test_equal_values_have_no_width() -> None:
    assert bootstrap_mean([1.0] * 9, range(9))._asdict() == {"mean": 1, "low": 1, "high": 1}


def test_no_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one value"):
        bootstrap_mean([], [])
