"""The contract of a pruning method: LayerHook, what it sees, and the registry of names."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, HookError
from fastav_plugin.hooks.knobs import Knob
from fastav_plugin.tokens import Modality

#: Place of a cut picked from the text model's own inputs and made on entering layer 0.
ENTRANCE = -1

VISUAL = (Modality.IMAGE, Modality.VIDEO)


class Rollout(Protocol):
    """Exact attention rollout through all layers below one place, computed when it is read.

    It can be read while the hook is called, not later. Padding and drafted tokens are 0.
    """

    def __len__(self) -> int:
        """Layers that the rollout goes through."""

    def last_row(self, alpha: float = 0.5) -> Tensor:
        """What the last prompt token is made of: float32 [B, T], each row sums to one.

        Args:
            alpha: weight of attention against the residual path, in [0, 1].
        """

    def column_sums(self, alpha: float = 0.5) -> Tensor:
        """What each token gives to all survivors: float32 [B, T]."""

    def by_depth(self, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
        """Both for every depth: two float32 [l, B, T]."""


@dataclass(frozen=True)
class LayerView:
    """The rows alive at one place of one prefill, as a hook sees them.

    A later turn's rows are shown as a prompt of their own: their positions count on, and rows of
    earlier turns, which scores share their attention with, are not among them.

    Attributes:
        layer: the layer about to be entered, or ENTRANCE.
        num_layers: decoder layers L of the model.
        hidden_states: [B, T, C], what the layer would receive (input embeddings at ENTRANCE).
        positions: int64 [B, T], original prompt positions, ascending; -1 for padding.
        start: int64 [B], position of each row's first real token.
        modality: uint8 [B, T], values of `Modality`.
        segment: int64 [B, T], media segment, -1 outside media.
        frame: int64 [B, T], video frame, -1 where unknown.
        alive: bool [B, T], False for padding and for rows an earlier hook at this place dropped.
        scores: float32 [B, T], attention the last real query paid to each row in the layer just
            left, each row summing to one (to less in a later turn); None unless the hook set
            `needs_scores`.
        rollout: exact attention rollout through the layers below, computed when it is read; None
            unless the hook set `needs_rollout`.
        fingerprint: int64 [B], a number that each prompt's token ids decide, whatever the batch and
            its padding; 0 where prompts came as embeddings.
    """

    layer: int
    num_layers: int
    hidden_states: Tensor
    positions: Tensor
    start: Tensor
    modality: Tensor
    segment: Tensor
    frame: Tensor
    alive: Tensor
    scores: Tensor | None = None
    rollout: Rollout | None = None
    fingerprint: Tensor | None = None

    @property
    def media(self) -> Tensor:
        """Bool [B, T], media rows still alive."""
        return (self.modality > int(Modality.TEXT)) & self.alive

    def mask(self, *modalities: Modality) -> Tensor:
        """Bool [B, T], rows of these modalities still alive."""
        found = self.modality == int(modalities[0])
        for modality in modalities[1:]:
            found = found | (self.modality == int(modality))
        return found & self.alive


class LayerHook(ABC):
    """One pruning decision, in the manner of a LogitsProcessor.

    A hook says at which places it wants to be called and, when called, which rows go on. Text,
    padding, the last token and at least one media token per row are protected by the engine.

    Attributes:
        needs_scores: whether `LayerView.scores` is read.
        needs_rollout: whether `LayerView.rollout` is read. The engine then holds on to the queries
            of all layers below the hook's last place until that place is left.
        may_empty: whether dropping all media tokens of a row is meant; otherwise one goes on.
        counts_vary: whether more than the prompt's size decides how many rows go on, so that
            `rehearse` can only say the most.
    """

    name: ClassVar[str] = ""
    needs_scores: bool = False
    needs_rollout: bool = False
    may_empty: bool = False
    counts_vary: ClassVar[bool] = False
    #: Fields of FastAVConfig that may give way to meet a budget of FLOPs.
    knobs: ClassVar[tuple[Knob, ...]] = ()

    @abstractmethod
    def layers(self, num_layers: int) -> frozenset[int]:
        """Places: ENTRANCE, or l for "on entering layer l"."""

    @abstractmethod
    def __call__(self, view: LayerView) -> Tensor | None:
        """Bool [B, T], True where the row goes on; None keeps all."""

    def rehearse(self, view: LayerView) -> Tensor | None:
        """A mask that keeps as many rows as `__call__` would, for a plan without a model.

        Default: the answer itself. A hook that works long on features, which are random in a
        plan, should name rows faster.
        """
        return self(view)

    @classmethod
    def from_config(cls, config: FastAVConfig) -> LayerHook:
        """The hook a config's method asks for. Default: no arguments."""
        del config
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Constructor arguments and the registered name, as plain JSON data.

        Raises:
            HookError: the class is not registered, so could not be read back.
        """
        if HOOKS.get(self.name) is not type(self):
            raise HookError(
                f"{type(self).__name__} is not registered, so a config with it cannot be saved. "
                "Register the class with register_hook()."
            )
        parameters = inspect.signature(type(self).__init__).parameters
        return {"name": self.name, **{k: getattr(self, k) for k in parameters if k != "self"}}


class LayerHookList(list[LayerHook]):
    """Hooks in the order in which they are asked at a place."""

    def at(self, place: int, num_layers: int) -> LayerHookList:
        """The hooks that want to be called at one place."""
        return LayerHookList(hook for hook in self if place in hook.layers(num_layers))

    def places(self, num_layers: int) -> frozenset[int]:
        """All places at which some hook wants to be called.

        Raises:
            HookError: a place that the model does not have.
        """
        found: set[int] = set()
        for hook in self:
            wanted = hook.layers(num_layers)
            wrong = [place for place in wanted if not ENTRANCE <= place < num_layers]
            if wrong:
                raise HookError(
                    f"{type(hook).__name__} asks for layers {sorted(wrong)}; the model has layers "
                    f"0..{num_layers - 1}, and ENTRANCE is {ENTRANCE}."
                )
            first = min(wanted, default=1)
            if (hook.needs_scores or hook.needs_rollout) and first < 1:
                needed = "scores" if hook.needs_scores else "rollout"
                raise HookError(
                    f"{type(hook).__name__} needs {needed} at place {first}, before any attention."
                )
            found |= wanted
        return frozenset(found)

    @classmethod
    def from_list(cls, items: Iterable[Any]) -> LayerHookList:
        """Hooks given as objects or as their `to_dict()` data."""
        hooks = cls()
        for item in items:
            if isinstance(item, Mapping):
                values = dict(item)
                hook_class = find_hook(str(values.pop("name", "")))
                try:
                    hooks.append(hook_class(**values))
                except TypeError as error:
                    raise ConfigError(
                        f"Wrong data for hook {hook_class.name!r}: {error}."
                    ) from error
            elif isinstance(item, LayerHook):
                hooks.append(item)
            else:
                raise HookError(f"`hooks` holds LayerHook objects, got {type(item).__name__}.")
        return hooks


def one_layer(layer: int | None, num_layers: int) -> frozenset[int]:
    """The place of a hook that is called once: on entering `layer`, or the middle one for None.

    Raises:
        ConfigError: the model has no such layer.
    """
    layer = num_layers // 2 if layer is None else layer
    if layer >= num_layers:
        raise ConfigError(
            f"`global_layer` must lie in [1, {num_layers - 1}] for this model, got {layer}."
        )
    return frozenset({layer})


#: Registered hook classes by name.
HOOKS: dict[str, type[LayerHook]] = {}

#: Method names and the hooks each is made of, in order.
METHODS: dict[str, tuple[str, ...]] = {"none": ()}

HookClass = TypeVar("HookClass", bound=type[LayerHook])


def register_hook(hook_class: HookClass) -> HookClass:
    """Make a LayerHook class known by its `name`; usable as a decorator.

    The name is also that of the method made of this hook alone.

    Raises:
        HookError: not a LayerHook class, no name, or a name that is taken or holds a "+".
    """
    if not (isinstance(hook_class, type) and issubclass(hook_class, LayerHook)):
        raise HookError(f"register_hook() takes a LayerHook class, got {hook_class!r}.")
    name = hook_class.name
    taken = HOOKS.get(name, hook_class) is not hook_class or METHODS.get(name, (name,)) != (name,)
    if not name or "+" in name or taken:
        raise HookError(f"The hook name {name!r} is empty, taken or holds a '+'. Choose another.")
    HOOKS[name] = hook_class
    METHODS[name] = (name,)
    return hook_class


def find_hook(name: str) -> type[LayerHook]:
    """The registered class of a name.

    Raises:
        ConfigError: no such hook.
    """
    if name not in HOOKS:
        raise ConfigError(
            f"Unknown hook {name!r}. Known: {', '.join(sorted(HOOKS))}. "
            "Add one with register_hook()."
        )
    return HOOKS[name]


def method_hooks(config: FastAVConfig) -> LayerHookList:
    """The hooks a config asks for: its own, or those its method names.

    Raises:
        ConfigError: unknown method.
    """
    if config.hooks is not None:
        return LayerHookList.from_list(config.hooks)
    hooks = LayerHookList()
    parts = config.method.split("+")
    for part in parts:
        if part not in METHODS:
            raise ConfigError(
                f"Unknown method {part!r}. Known: {', '.join(sorted(METHODS))}, "
                "joined by '+' where several are wanted."
            )
        hooks.extend(find_hook(name).from_config(config) for name in METHODS[part])
    if len(set(parts)) < len(parts):
        raise ConfigError(f"`method` names a method twice: {config.method!r}.")
    return hooks
