"""Pruning methods, one file each. A new method is one file here and one row below."""

from fastav_plugin.hooks.adaptive import AdaptivePruning
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
from fastav_plugin.hooks.fastv import FastV
from fastav_plugin.hooks.fine_pruning import FinePruning
from fastav_plugin.hooks.global_pruning import GlobalPruning
from fastav_plugin.hooks.late_removal import LateRemoval
from fastav_plugin.hooks.low_attentive import LowAttentive
from fastav_plugin.hooks.pyramid_drop import PyramidDrop
from fastav_plugin.hooks.random_pruning import RandomPruning
from fastav_plugin.hooks.rollout_guided import RolloutGuided
from fastav_plugin.hooks.seats import SeatsEntrance, SeatsStages
from fastav_plugin.hooks.uniform import UniformStride
from fastav_plugin.hooks.vtw import VTW

METHODS["fastav"] = (GlobalPruning.name, FinePruning.name)
METHODS["divprune"] = (DivPrune.name,)
METHODS["divprune_by_frame"] = (DivPruneByFrame.name,)
METHODS["seats"] = (SeatsEntrance.name, SeatsStages.name)

__all__ = [
    "ENTRANCE",
    "METHODS",
    "VTW",
    "AdaptivePruning",
    "DivPrune",
    "DivPruneByFrame",
    "FastV",
    "FinePruning",
    "GlobalPruning",
    "LateRemoval",
    "LayerHook",
    "LayerHookList",
    "LayerView",
    "LowAttentive",
    "PyramidDrop",
    "RandomPruning",
    "RolloutGuided",
    "SeatsEntrance",
    "SeatsStages",
    "UniformStride",
    "find_hook",
    "method_hooks",
    "register_hook",
]
