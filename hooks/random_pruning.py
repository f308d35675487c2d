"""The honest floor: media rows drawn at random."""

from __future__ import annotations

import torch
from typing_extensions import override

from fastav_plugin.functional.hashing import mix
from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, best_of


@register_hook
class RandomPruning(RatioPruning):
    """Keep, on entering the middle layer, media rows drawn at random for each prompt.

    What is drawn follows from `seed`, the prompt's token ids and each row's position, and from
    nothing else: not the batch, the padding, the device or torch's random state. Prompts that
    differ only inside their media have the same ids and draw alike; so do all prompts that come
    as embeddings.

    Args:
        visual_keep_ratio: share of image and video rows kept, in (0, 1].
        audio_keep_ratio: the same for audio rows; None keeps all audio.
        layer: the layer to enter, or ENTRANCE (-1); None means L // 2.
        together: let both kinds compete for the sum of their counts.
        seed: another one draws others.

    Reference: the "random" row of FastAV's table of global rules (arXiv 2601.13143).
    """

    name = "random"

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        together: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio, layer, together)
        self.seed = seed

    @override
    def choose(self, view: LayerView) -> Choice:
        prompt = torch.zeros_like(view.start) if view.fingerprint is None else view.fingerprint
        stream = mix(mix(torch.full_like(prompt, self.seed)) + prompt)
        places = view.positions - view.start[:, None]
        return best_of(mix(stream[:, None] + mix(places)).double())
