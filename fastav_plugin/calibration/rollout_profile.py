"""Where attention rollout finds its mass among the media, layer by layer, over many prompts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from fastav_plugin.calibration.plan import READ
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.global_rule import MEDIA
from fastav_plugin.hooks.base import LayerHook, LayerView
from fastav_plugin.tokens import Modality

#: Shares of the media tokens at which the concentration curves are taken.
SHARES = tuple(step / 20 for step in range(1, 21))

#: Names of the means over all media, by offset and by frame.
POSITION, FRAME = "position", "frame"


@dataclass(frozen=True)
class Observed:
    """The rollout of one dense prefill.

    Attributes:
        rollout: float32 [2, L - 1, T], in the order of `READ`; entry l - 1 is of the layers
            0..l-1, as a cut on entering layer l would see it.
        modality: uint8 [T], values of `Modality`.
        frame: int64 [T], -1 where unknown.
        offset: int64 [T], positions from the first real token on.
    """

    rollout: Tensor
    modality: Tensor
    frame: Tensor
    offset: Tensor


class RolloutObserver(LayerHook):
    """Keeps all tokens, and records the rollout through every depth of the model.

    `alpha` is the weight of attention against the residual path, in [0, 1].
    """

    needs_rollout = True

    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = alpha
        self.observed: Observed | None = None

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        if num_layers < 2:
            raise UnsupportedError("A model of one layer has no place for a global cut.")
        return frozenset({num_layers - 1})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.rollout is not None
        real = view.alive[0]
        read = torch.stack(view.rollout.by_depth(self.alpha))[:, :, 0, real]
        self.observed = Observed(
            rollout=read.cpu(),
            modality=view.modality[0, real].cpu(),
            frame=view.frame[0, real].cpu(),
            offset=(view.positions[0, real] - view.start[0]).cpu(),
        )
        return None


@dataclass
class RolloutProfile:
    """Mean rollout over media tokens, their positions and their frames, of many prompts.

    Every prompt counts alike: its masses are normalised over the tokens in question before the mean
    is taken, and tokens that a shorter prompt does not have count as 0.

    Attributes:
        sums: so far, from which an interrupted calibration resumes.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, seen: Observed) -> None:
        """Add one prompt; UnsupportedError if it holds no media."""
        mass = seen.rollout.double()
        media = seen.modality > int(Modality.TEXT)
        if not bool(media.any()):
            raise UnsupportedError("A prompt without media tokens says nothing about media.")
        for name in MEDIA:
            rows = seen.modality == int(Modality[name.upper()])
            if bool(rows.any()):
                self._count(name, mass[:, :, rows])
                if bool((rows & (seen.frame < 0)).any()):
                    self._count(f"unframed.{name}", mass[:, :, :1])
        framed = media & (seen.frame >= 0)
        if bool(framed.any()):
            _, ranks = torch.unique(seen.frame[framed], return_inverse=True)
            self._count(FRAME, _gathered(mass[:, :, framed], ranks))
        self._count(POSITION, _gathered(mass[:, :, media], seen.offset[media]))
        kinds = torch.stack(
            [mass[:, :, seen.modality == int(kind)].sum(dim=2) for kind in list(Modality)[1:]], 2
        )
        self._count("modality", kinds)
        ends = [-(-int(media.sum()) * step // 20) - 1 for step in range(1, 21)]
        shares = _shares(mass[:, :, media])
        self._add("sum.curve.first", shares.cumsum(dim=2)[:, :, ends])
        top = shares.sort(dim=2, descending=True).values
        self._add("sum.curve.top", top.cumsum(dim=2)[:, :, ends])

    def _count(self, name: str, mass: Tensor) -> None:
        """Add one prompt's masses [2, L - 1, n]."""
        self._add(f"sum.{name}", _shares(mass))
        self._add(f"count.{name}", torch.ones(1, dtype=torch.float64))

    def _add(self, name: str, more: Tensor) -> None:
        have = self.sums.get(name, more.new_zeros((*more.shape[:-1], 0)))
        width = max(have.shape[-1], more.shape[-1])
        have, more = (pad(part, (0, width - part.shape[-1])) for part in (have, more))
        self.sums[name] = have + more

    @property
    def prompts(self) -> int:
        """How many prompts were added."""
        return int(self.sums.get("count.modality", torch.zeros(1)).item())

    @property
    def modalities(self) -> list[str]:
        """Those of some prompt."""
        return [name for name in MEDIA if f"sum.{name}" in self.sums]

    @property
    def framed(self) -> list[str]:
        """Modalities whose tokens all have a known frame."""
        return [name for name in self.modalities if f"sum.unframed.{name}" not in self.sums]

    def mean(self, name: str, read: str, layer: int) -> Tensor:
        """Mean share of each token, position or frame on entering layer 1..L-1: float64 [n].

        `name` is a modality (by order), "position" (all media, by offset), "frame" (all media
        whose frame is known, by rank), or "modality" (text, image, video, audio).
        """
        return self._means(name)[READ.index(read), layer - 1]

    def _means(self, name: str) -> Tensor:
        return self.sums[f"sum.{name}"] / self.sums[f"count.{name}"]  # [2, L - 1, n]

    def change(self, read: str) -> list[float]:
        """How far the profile moves by each layer: entry l - 1 from entering l to entering l + 1.

        The total variation distance of the two means by order, of the modality that moves most.
        """
        profiles = [self._means(name)[READ.index(read)] for name in self.modalities]
        moved = [profile.diff(dim=0).abs().sum(dim=1) / 2 for profile in profiles]
        return [float(of_layer.max()) for of_layer in torch.stack(moved, dim=1)]

    def stable_from(self, read: str, threshold: float) -> int | None:
        """The first layer, 1..L-2, from which on none moves the profile by `threshold` or more.

        None where the last layer still does.
        """
        changes = self.change(read)
        still = [layer for layer, moved in enumerate(changes, 1) if moved >= threshold]
        found = max(still, default=0) + 1
        return found if found <= len(changes) else None

    def results(self) -> dict[str, Tensor]:
        """Means for the file, float32 [L - 1, n] each: `profile.<read>.<name>` and curves."""
        found: dict[str, Tensor] = {}
        names = [*self.modalities, POSITION, "modality"]
        names += [FRAME] if f"sum.{FRAME}" in self.sums else []
        for index, read in enumerate(READ):
            for name in names:
                found[f"profile.{read}.{name}"] = self._means(name)[index].float()
            for curve in ("first", "top"):
                mean = self.sums[f"sum.curve.{curve}"][index] / self.prompts
                found[f"curve.{read}.{curve}"] = mean.float()
        return found


def _shares(mass: Tensor) -> Tensor:
    return mass / mass.sum(dim=2, keepdim=True).clamp(min=1e-300)


def _gathered(mass: Tensor, places: Tensor) -> Tensor:
    """Sum [2, L - 1, n] by place."""
    wide = mass.new_zeros((*mass.shape[:2], int(places.max()) + 1))
    return wide.index_add_(2, places, mass)
