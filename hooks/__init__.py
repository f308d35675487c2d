"""Pruning methods, one file each. A new method is one file here and one row below."""

from fastav_plugin.hooks.base import (
    ENTRANCE,
    METHODS,
    LayerHook,
    LayerHookList,
    LayerView,
    find_hook,
    method_hooks,
    register_hook,
)
from fastav_plugin.hooks.div_prune import DivPrune, DivPruneByFrame
from fastav_plugin.hooks.fine_pruning import FinePruning
from fastav_plugin.hooks.global_pruning import GlobalPruning

METHODS["fastav"] = (GlobalPruning.name, FinePruning.name)
METHODS["divprune"] = (DivPrune.name,)
METHODS["divprune_by_frame"] = (DivPruneByFrame.name,)

__all__ = [
    "ENTRANCE",
    "METHODS",
    "DivPrune",
    "DivPruneByFrame",
    "FinePruning",
    "GlobalPruning",
    "LayerHook",
    "LayerHookList",
    "LayerView",
    "find_hook",
    "method_hooks",
    "register_hook",
]
