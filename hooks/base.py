"""The contract of a pruning method: LayerHook, and the LayerView it is shown."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import HookError
from fastav_plugin.tokens import Modality, counted

#: The cut that is chosen from the text model's inputs and made on entering layer 0.
ENTRANCE = -1

VISUAL = (Modality.IMAGE, Modality.VIDEO)


class LayerHook(ABC):
    """One pruning decision, in the manner of a LogitsProcessor.

    A hook says at which layers it is called and, when called, which tokens are kept. The engine
    keeps text, padding, the last token and at least one media token per batch row whatever the
    hook says. Hooks called at one layer are asked in list order; a later one sees what the
    earlier ones kept.

    Attributes:
        name: under which `register_hook` makes the class known.
        needs_scores: whether `LayerView.scores` is read.
        needs_rollout: whether `LayerView.rollout` is read. The engine then holds the queries of
            all layers below the hook's last one until that one is entered.
        may_empty: whether the hook may drop all media tokens of a batch row; otherwise one stays.
    """

    name: ClassVar[str] = ""
    needs_scores: bool = False
    needs_rollout: bool = False
    may_empty: bool = False

    @abstractmethod
    def layers(self, num_layers: int) -> frozenset[int]:
        """Where to be called: l for "on entering layer l", or ENTRANCE."""

    @abstractmethod
    def __call__(self, view: LayerView) -> Tensor | None:
        """Bool [B, T], True for each token to keep; None keeps all."""

    @classmethod
    def from_config(cls, config: FastAVConfig) -> LayerHook:
        """The hook for a config that names its method. Default: no arguments."""
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
        return {"name": self.name, **{name: getattr(self, name) for name in self._parameters()}}

    def __repr__(self) -> str:
        """The call that makes it, as far as its attributes are named as its arguments."""
        names = [name for name in self._parameters() if hasattr(self, name)]
        arguments = ", ".join(f"{name}={_short(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({arguments})"

    def _parameters(self) -> list[str]:
        """Names of the constructor's arguments."""
        found = inspect.signature(type(self)).parameters.values()
        return [
            each.name for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]


@dataclass(frozen=True, repr=False)
class LayerView:
    """The survivors on entering one layer of one prefill, as a hook sees them.

    A later turn is shown as a prompt of its own: its positions count on, and tokens of earlier
    turns, which scores share their attention with, are not shown.

    Attributes:
        layer: the layer to be entered, or ENTRANCE.
        num_layers: decoder layers L of the model.
        hidden_states: [B, T, C], what the layer would receive (input embeddings at ENTRANCE).
        positions: int64 [B, T], original prompt positions, ascending; -1 for padding.
        start: int64 [B], position of each batch row's first real token.
        modality: uint8 [B, T], values of `Modality`.
        segment: int64 [B, T], media segment, -1 outside media.
        frame: int64 [B, T], video frame, -1 where unknown.
        alive: bool [B, T], False for padding and for what an earlier hook dropped at this layer.
        scores: float32 [B, T], attention of the last real query to each token in the attention
            layer below, over all survivors summing to one (to less in a later turn); None unless
            the hook set `needs_scores`.
        rollout: attention rollout through the layers below; None unless the hook set
            `needs_rollout`.
        fingerprint: int64 [B], a number that follows from each prompt's token ids, whatever the
            batch and its padding; 0 where prompts came as embeddings.
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

    def __repr__(self) -> str:
        place = "entrance" if self.layer == ENTRANCE else f"layer {self.layer}"
        tokens = counted(self.modality.masked_fill(~self.alive, int(Modality.PADDING)))
        batch, length = self.modality.shape
        rows = "1 row" if batch == 1 else f"{batch} rows"
        return f"LayerView({place} of {self.num_layers}, {rows} of {length}: {tokens})"

    @property
    def media(self) -> Tensor:
        """Bool [B, T], media tokens."""
        return (self.modality > int(Modality.TEXT)) & self.alive

    def mask(self, *modalities: Modality) -> Tensor:
        """Bool [B, T], tokens of these modalities."""
        found = self.modality == int(modalities[0])
        for modality in modalities[1:]:
            found = found | (self.modality == int(modality))
        return found & self.alive


class Rollout(Protocol):
    """Exact attention rollout through all layers below one, computed when it is read.

    It can be read while the hook is called, not later. Padding and drafted tokens are 0.
    """

    def __len__(self) -> int:
        """Layers that the rollout goes through."""

    def last_row(self, alpha: float = 0.5) -> Tensor:
        """Share of each token in the last prompt token: float32 [B, T], sums to one.

        Args:
            alpha: weight of attention against the residual path, in [0, 1].
        """

    def column_sums(self, alpha: float = 0.5) -> Tensor:
        """Share of each token in all survivors, summed: float32 [B, T]."""

    def by_depth(self, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
        """Both for every depth: two float32 [l, B, T]."""


#: Registered hook classes by name; `hooks/registry.py` fills it.
HOOKS: dict[str, type[LayerHook]] = {}


def _short(value: Any) -> str:
    """The repr of an argument, of tensors their shape."""
    return f"Tensor{tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
