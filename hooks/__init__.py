"""Pruning methods, one file per paper. A new method is one file here and one import below.

FastAV's own: `fastav` (GlobalPruning, then FinePruning), and `divprune` (DivPrune). To compare
with: `fastv`, `pyramid_drop`, `vtw`, `seats`, FastAV's ablation `low_attentive`, and the control
baselines `random` and `uniform`. Published after DivPrune: `omnipack`, `macer`, `scope`,
`cdpruner` and `dart`. Ours: `rollout_guided` and `adaptive`, global cuts by the
attention rollout of the prompt itself, and `late_removal`. Any two may be joined by "+".

Every hook cuts by one mask over the survivors, so some faults of published code are not possible
here: no layer runs twice, keys and values are appended once, each batch row is cut on its own.

PruMerge (arXiv 2403.15388) is not among them. It chooses by the attention of a vision tower's
class token and merges by the tower's keys; a LayerView shows neither, and most towers of the
models supported here have no class token.
"""

from fastav_plugin.hooks.ablations import LateRemoval, LowAttentive
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView
from fastav_plugin.hooks.cdpruner import CDPruner
from fastav_plugin.hooks.controls import RandomPruning, UniformStride
from fastav_plugin.hooks.dart import Dart
from fastav_plugin.hooks.divprune import DivPrune, DivPruneByFrame
from fastav_plugin.hooks.fastav import FinePruning, GlobalPruning
from fastav_plugin.hooks.fastv import FastV
from fastav_plugin.hooks.macer import Macer
from fastav_plugin.hooks.omnipack import OmniPackDiversity, OmniPackEntrance
from fastav_plugin.hooks.pyramid_drop import PyramidDrop
from fastav_plugin.hooks.registry import (
    METHODS,
    LayerHookList,
    find_hook,
    method_hooks,
    register_hook,
)
from fastav_plugin.hooks.rollout_guided import AdaptivePruning, RolloutGuided
from fastav_plugin.hooks.scope import Scope
from fastav_plugin.hooks.seats import SeatsEntrance, SeatsStages
from fastav_plugin.hooks.vtw import VTW

__all__ = [
    "ENTRANCE",
    "METHODS",
    "VTW",
    "AdaptivePruning",
    "CDPruner",
    "Dart",
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
    "Macer",
    "OmniPackDiversity",
    "OmniPackEntrance",
    "PyramidDrop",
    "RandomPruning",
    "RolloutGuided",
    "Scope",
    "SeatsEntrance",
    "SeatsStages",
    "UniformStride",
    "find_hook",
    "method_hooks",
    "register_hook",
]
