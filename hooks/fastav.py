"""FastAV: a global cut by position in the middle of the network, then a fine cut by scores."""

from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_ratio
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.functional.top_k import keep_top
from fastav_plugin.global_rule import rules_by_modality
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.plannable import OneLayerHook, PlannableHook, shallow_ranking
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.tokens import Modality


@register_hook
class GlobalPruning(OneLayerHook):
    """Keep, on entering one layer, the media tokens that a fixed rule names.

    The rule is positional and known before inference, so no attention map is needed.

    Args:
        rule: one rule for all media, or one per modality: "all", "first N tokens",
            "first N frames", "below N". "first" counts the survivors of a modality in prompt
            order, or their frames; modalities that have the same rule of frames are counted
            together, so that a frame is kept with its sound. "below" counts original positions
            from the batch row's first real token.
        layer: the layer to enter; None means the middle one, `DEFAULTS.layer`.

    Reference: FastAV (arXiv 2601.13143), section 2.1.
    """

    name = "global_pruning"
    config_fields = {"rule": "global_rule", "layer": "global_layer"}  # noqa: RUF012

    def __init__(
        self, rule: str | Mapping[str, str] = DEFAULTS.rule, layer: int | None = None
    ) -> None:
        super().__init__(layer)
        self.rule = rule
        self._rules = rules_by_modality(rule)

    @override
    def default_layer(self, num_layers: int) -> int:
        return DEFAULTS.layer(num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = torch.ones_like(view.alive)
        positions = view.positions - view.start[:, None]
        for name, rule in self._rules.items():
            if rule.counts == "all":
                continue
            tokens = view.mask(Modality[name.upper()])
            alike = [Modality[other.upper()] for other in self._rules if self._rules[other] == rule]
            keep &= ~tokens | rule.keeps(tokens, view.mask(*alike), positions, view.frame)
        return keep


@register_hook
class FinePruning(PlannableHook):
    """Drop a share of the media tokens on entering each layer after the global cut.

    Each batch row keeps `floor((1 - drop_ratio) * n)` of its n media tokens, at least one: those
    with the highest scores of the attention layer below.

    Args:
        drop_ratio: FastAV's P, in [0, 1).
        after_layer: layer of the global cut; the first fine cut is one layer later. None means
            the middle one, `DEFAULTS.layer`.

    Reference: FastAV (arXiv 2601.13143), section 2.2.
    """

    name = "fine_pruning"
    needs_scores = True
    config_fields = {"drop_ratio": "fine_drop_ratio", "after_layer": "global_layer"}  # noqa: RUF012
    # The global cut moves the layer.
    fixed_fields = ("global_layer",)

    def __init__(
        self, drop_ratio: float = DEFAULTS.drop_ratio, after_layer: int | None = None
    ) -> None:
        check_ratio("drop_ratio", drop_ratio, "[0, 1)")
        self.drop_ratio = drop_ratio
        self.after_layer = after_layer

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        if self.drop_ratio == 0:
            return frozenset()
        after = DEFAULTS.layer(num_layers) if self.after_layer is None else self.after_layer
        return frozenset(range(after + 1, num_layers))

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.scores is not None
        media = view.media
        # float64 on purpose: the count must be the one that Python's floats give.
        counts = ((1 - self.drop_ratio) * media.sum(dim=1).double()).floor().long().clamp(min=1)
        return ~media | keep_top(view.scores, media, counts)

    @override
    def caution(self, num_layers: int) -> str | None:
        places = self.layers(num_layers)
        return shallow_ranking(self.name, min(places), num_layers) if places else None
