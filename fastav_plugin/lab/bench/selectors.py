"""Selectors of one prompt, each as its hook runs it, beside DivPrune's."""

from collections.abc import Callable

import torch
from torch import Tensor

from fastav_plugin.hooks.base import LayerHook, LayerView
from fastav_plugin.hooks.cdpruner import CDPruner
from fastav_plugin.hooks.dart import Dart
from fastav_plugin.hooks.divprune import DivPrune
from fastav_plugin.hooks.macer import Macer
from fastav_plugin.hooks.omnipack import OmniPackDiversity, OmniPackEntrance
from fastav_plugin.hooks.scope import Scope
from fastav_plugin.tokens import Modality

#: Text tokens after the media, in the place of a question.
QUESTION = 32
#: Layers of the model that the hooks are told of; MACER cuts on entering layer 4 of these.
LAYERS = 28


def clip_view(features: Tensor, per_frame: int) -> LayerView:
    """A prompt of one clip and a question, as a hook sees it.

    Args:
        features: [V + 32, C], those of the video tokens, then of the question's.
        per_frame: video tokens of a frame.
    """
    total = len(features)
    place = torch.arange(total)
    video = place < total - QUESTION
    return LayerView(
        layer=4,
        num_layers=LAYERS,
        hidden_states=features[None],
        positions=place[None],
        start=torch.zeros(1, dtype=torch.int64),
        modality=torch.where(video, int(Modality.VIDEO), int(Modality.TEXT)).to(torch.uint8)[None],
        segment=torch.where(video, 0, -1)[None],
        frame=torch.where(video, place // per_frame, -1)[None],
        alive=torch.ones(1, total, dtype=torch.bool),
        scores=torch.rand(1, total, generator=torch.Generator().manual_seed(1)),
    )


def selector_calls(view: LayerView, keep: int) -> dict[str, Callable[[], Tensor]]:
    """Of each selector the call that returns int64 [keep], the media tokens it keeps.

    DivPrune is the first, which others are compared with.
    """
    ratio = keep / int(view.media.sum())
    hooks: dict[str, LayerHook] = {
        "divprune": DivPrune(ratio),
        "omnipack entrance": OmniPackEntrance(ratio),
        "omnipack inside": OmniPackDiversity(ratio),
        "scope": Scope(ratio),
        "cdpruner": CDPruner(ratio),
        "dart": Dart(ratio),
        "macer": Macer(ratio),
    }

    def call(hook: LayerHook) -> Callable[[], Tensor]:
        def kept() -> Tensor:
            mask = hook(view)
            assert mask is not None
            return (mask & view.media)[0].nonzero().squeeze(1)

        return kept

    return {name: call(hook) for name, hook in hooks.items()}
