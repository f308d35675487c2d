"""Confidence intervals of means by resampling, seeded."""

import functools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, and the interval that `LEVEL` of the resampled means fall into."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float], groups: Sequence[Hashable], *, seed: int = 0
) -> Interval:
    """Estimate a mean with a percentile bootstrap over whole groups.

    Values of one group (the questions about one clip) are drawn together, for they are not
    independent. Where all values are equal the interval has no width; that n questions without
    an error leave an error rate of up to 3/n plausible is not in it. The same seed and groups
    give the same draws.

    Raises:
        ConfigError: no value.
    """
    if not values:
        raise ConfigError("A mean needs at least one value, got none.")
    index = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    places = [index[group] for group in groups]
    counts = np.bincount(places)
    sums = np.bincount(places, weights=values)
    draws = _draws(len(index), seed)
    means = (draws @ sums) / (draws @ counts)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


@functools.lru_cache(maxsize=2)
def _draws(groups: int, seed: int) -> npt.NDArray[np.int64]:
    """int64 [RESAMPLES, groups], how often each resample holds each group.

    Drawing takes far longer than the means, and many means are over the same groups.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, [1 / groups] * groups, size=RESAMPLES)
