"""Beside the contract: what dry runs and FLOPs budgets may ask of a hook, all of it optional."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig, check_integer
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView


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
        choose in a faster way. Default: as `__call__`.
        """
        return self(view)


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
