"""Beside the contract: what dry runs, FLOPs budgets and advice may ask of a hook, all optional."""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, Self, TypeVar

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig, check_integer
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView

#: How many: a number, or int64 [B], one for each batch row.
Count = TypeVar("Count", int, Tensor)

#: Share of the depth from which on no media were needed, measured on a real language model.
LAST_MEDIA = 0.8
#: Where late removal drops all media by default, as a share of the layers.
LATE_DEPTH = 0.82


class PlannableHook(LayerHook):
    """A hook that names the fields of a config it takes, and that has a dry run.

    Attributes:
        config_fields: constructor arguments, and the field of FastAVConfig that gives each. A
            budget of FLOPs may change these fields.
        fixed_fields: those of them that a budget does not change for this hook's sake.
        counts_vary: whether more than the prompt's size decides how many tokens are kept, so that
            `dry_run` can only give an upper bound.
    """

    config_fields: ClassVar[Mapping[str, str]] = {}
    fixed_fields: ClassVar[tuple[str, ...]] = ()
    counts_vary: ClassVar[bool] = False

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> Self:
        values = {name: getattr(config, field) for name, field in cls.config_fields.items()}
        return cls(**{name: value for name, value in values.items() if value is not None})

    def dry_run(self, view: LayerView) -> Tensor | None:
        """A mask that keeps as many tokens as `__call__` would, whatever the features are.

        Features and scores of a dry run are random, so a hook that computes long on them should
        choose in a faster way. One that reads `view.rollout` reads it here as well, so that its
        cost is known: it gets a rollout that computes nothing. Default: as `__call__`.
        """
        return self(view)

    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """Multiply-accumulates of choosing some of the candidates, scores and rollout left out.

        Made of sums, products and whole quotients alone, so that counts may be tensors.

        Args:
            candidates: media tokens to choose among.
            kept: how many of them are chosen.
            width: of their features, the text model's hidden size.

        Returns:
            Default: 0.
        """
        return candidates * 0

    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        """`selection_macs` of one call, int64 [B]; None where they are 0.

        Default: of all media tokens together. A hook that chooses among several groups of tokens
        adds up theirs. Nothing here may wait for the device.

        Args:
            view: what the hook was shown.
            keep: bool [B, T], what it answered.
            width: as of `selection_macs`.
        """
        if not self.states_selection:
            return None
        return self.selection_macs(view.media.sum(dim=1), (view.media & keep).sum(dim=1), width)

    @property
    def states_selection(self) -> bool:
        """Whether choosing takes products, as `selection_macs` says."""
        return type(self).selection_macs is not PlannableHook.selection_macs

    def caution(self, num_layers: int) -> str | None:
        """One sentence where this hook is used outside of what was measured to work, or None.

        Args:
            num_layers: decoder layers L of the model.
        """
        del num_layers
        return None


def cautions(hooks: Iterable[LayerHook], num_layers: int) -> list[str]:
    """What the hooks of a method warn of on a model with so many layers, each sentence once.

    Any LayerHook may have a method `caution(num_layers) -> str | None`.
    """
    found: list[str] = []
    for hook in hooks:
        caution = getattr(hook, "caution", None)
        text = None if caution is None else caution(num_layers)
        if text is not None and text not in found:
            found.append(text)
    return found


def shallow_ranking(name: str, layer: int, num_layers: int) -> str | None:
    """The caution of a hook that ranks by the attention below `layer`; None from L // 2 on."""
    if layer >= num_layers // 2:
        return None
    return (
        f"'{name}' ranks media by attention on entering layer {layer} of {num_layers}: below the "
        f"middle (layer {num_layers // 2}) attention found nothing on the real language model "
        "measured (SmolLM2-135M: chance in layers 0 to 13 of 30)."
    )


def early_removal(name: str, layer: int, num_layers: int) -> str | None:
    """The caution of a hook that drops all media on entering `layer`; None from 0.8 L on.

    Nor where late removal stands by default, which in a few layers is rounded below that.
    """
    if layer >= min(LAST_MEDIA * num_layers, layer_at_depth(LATE_DEPTH, num_layers)):
        return None
    first = math.ceil(LAST_MEDIA * num_layers)
    return (
        f"'{name}' drops all media on entering layer {layer} of {num_layers}: on the real language "
        f"model measured (SmolLM2-135M) they may go from {LAST_MEDIA} of the depth on (here layer "
        f"{first}; all of 23 answers stayed), and two of 30 layers earlier 30 % stayed."
    )


def tunable_fields(hooks: Iterable[LayerHook]) -> set[str]:
    """The fields of FastAVConfig that a budget of FLOPs may change for some hook."""
    return {
        field
        for hook in hooks
        if isinstance(hook, PlannableHook)
        for field in hook.config_fields.values()
        if field not in hook.fixed_fields
    }


def counts_vary(hooks: Iterable[LayerHook]) -> bool:
    """Whether a dry run of these hooks only bounds the counts."""
    return any(isinstance(hook, PlannableHook) and hook.counts_vary for hook in hooks)


def layer_at_depth(depth: float, num_layers: int) -> int:
    """The layer at a share of the depth: never the first, which has no attention below."""
    return min(max(1, round(depth * num_layers)), num_layers - 1)


class OneLayerHook(PlannableHook):
    """A hook that is called once, on entering one layer.

    Args:
        layer: the layer to enter; None means `default_layer`.
    """

    config_fields: ClassVar[Mapping[str, str]] = {"layer": "global_layer"}
    #: The lowest layer that may be given.
    lowest_layer: ClassVar[int] = 1

    def __init__(self, layer: int | None = None) -> None:
        check_integer("layer", layer, minimum=self.lowest_layer, optional=True)
        self.layer = layer

    def default_layer(self, num_layers: int) -> int:
        """The layer entered where none is given: the middle one."""
        return num_layers // 2

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        """The one layer.

        Raises:
            ConfigError: the model has no such layer.
        """
        layer = self.default_layer(num_layers) if self.layer is None else self.layer
        if layer >= num_layers:
            raise ConfigError(
                f"`global_layer` must lie in [1, {num_layers - 1}] for this model, got {layer}."
            )
        return frozenset({layer})
