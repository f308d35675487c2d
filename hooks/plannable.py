"""What planning may know of a hook beside its contract. A method works without any of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig, check_integer
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView


class PlannableHook(LayerHook):
    """A hook that helps to count tokens without a model, and to meet a FLOPs budget.

    Attributes:
        tunable: fields of FastAVConfig that `target_flops` may change for this hook.
        counts_vary: whether more than the prompt's size decides how many tokens are kept, so that
            `dry_run` can only give an upper bound.
    """

    tunable: ClassVar[tuple[str, ...]] = ()
    counts_vary: ClassVar[bool] = False

    def dry_run(self, view: LayerView) -> Tensor | None:
        """A mask that keeps as many tokens as `__call__` would, whatever the features are.

        Features and scores of a dry run are random, so a hook that computes long on them should
        choose in a faster way. Default: as `__call__`.
        """
        return self(view)


def dry_run(hook: LayerHook, view: LayerView) -> Tensor | None:
    """The mask of any hook in a dry run."""
    return hook.dry_run(view) if isinstance(hook, PlannableHook) else hook(view)


def counts_vary(hooks: Iterable[LayerHook]) -> bool:
    """Whether a dry run of these hooks only bounds the counts."""
    return any(isinstance(hook, PlannableHook) and hook.counts_vary for hook in hooks)


class OneLayerHook(PlannableHook):
    """A hook that is called once, on entering one layer.

    Args:
        layer: the layer to enter; None means `default_layer`.
    """

    tunable: ClassVar[tuple[str, ...]] = ("global_layer",)
    #: The lowest layer that may be given.
    lowest_layer: ClassVar[int] = 1

    def __init__(self, layer: int | None = None) -> None:
        check_integer("layer", layer, minimum=self.lowest_layer, optional=True)
        self.layer = layer

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> OneLayerHook:
        return cls(layer=config.global_layer)

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
