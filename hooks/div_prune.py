"""Import path of `max_min_diversity`; the method is in `hooks/divprune.py`."""

from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.hooks.divprune import DivPrune, DivPruneByFrame

__all__ = ["DivPrune", "DivPruneByFrame", "max_min_diversity"]
