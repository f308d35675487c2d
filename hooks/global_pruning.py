"""FastAV's global cut: one positional rule in the middle of the network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import MEDIA, FastAVConfig
from fastav_plugin.errors import TokenMapError
from fastav_plugin.hooks.base import LayerHook, LayerView, one_layer, register_hook
from fastav_plugin.hooks.knobs import LayerKnob, RuleKnob
from fastav_plugin.tokens import Modality


@register_hook
class GlobalPruning(LayerHook):
    """Keep, on entering one layer, the media rows that a fixed rule names.

    The rule is positional and known before inference, so no attention map is needed.

    Args:
        rule: one rule for all media, or one per modality: "all", "first N tokens",
            "first N frames", "below N". "first" counts a modality's alive rows in prompt
            order, or its frames still alive; modalities that have one rule of frames in common
            are counted together, so that a frame goes with its sound. "below" counts original
            positions from the row's first real token.
        layer: the layer to enter; None means L // 2.

    Reference: FastAV, section 2.1.
    """

    name = "global_pruning"
    knobs = (RuleKnob(field="global_rule", rank=3), LayerKnob(field="global_layer", rank=4))

    def __init__(self, rule: str | Mapping[str, str] = "below 750", layer: int | None = None):
        self.rule = rule
        self.layer = layer
        # The config knows the grammar of rules.
        self._rules = FastAVConfig(global_rule=rule, global_layer=layer).rules()

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> GlobalPruning:
        rule = "below 750" if config.global_rule is None else config.global_rule
        return cls(rule, config.global_layer)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return one_layer(self.layer, num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = torch.ones_like(view.alive)
        for name in MEDIA:
            rule = self._rules[name]
            if rule == "all":
                continue
            rows = view.mask(Modality[name.upper()])
            alike = [Modality[other.upper()] for other in MEDIA if self._rules[other] == rule]
            keep &= ~rows | _obeys(rule, rows, view.mask(*alike), view)
        return keep


def _obeys(rule: str, rows: Tensor, alike: Tensor, view: LayerView) -> Tensor:
    """Bool [B, T], True where a row of one modality (`rows`) satisfies the rule.

    `alike` are the rows of all modalities under this very rule.
    """
    words = rule.split()
    if words[0] == "below":
        return view.positions - view.start[:, None] < int(words[1])
    count = int(words[1])
    if words[2] == "tokens":
        return rows.cumsum(dim=1) <= count
    if bool((rows & (view.frame < 0)).any()):
        raise TokenMapError(
            f"The rule {rule!r} needs the frame of every token, which this prompt's TokenMap "
            "does not know. Use 'first N tokens' or 'below N', or pass a TokenMap with frames."
        )
    # Frames ascend in prompt order, so a row opens a frame if it is past all before it.
    frame = torch.where(alike, view.frame, -1)
    before = torch.nn.functional.pad(frame.cummax(dim=1).values, (1, 0), value=-1)[:, :-1]
    return (alike & (frame > before)).cumsum(dim=1) <= count
