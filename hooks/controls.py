"""Control baselines: media tokens drawn at random, and at even distances."""

import torch
from typing_extensions import override

from fastav_plugin.functional.hashing import mix
from fastav_plugin.functional.top_k import Selector, best_of
from fastav_plugin.hooks.base import ENTRANCE, LayerView
from fastav_plugin.hooks.ratio_pruning import RatioPruning
from fastav_plugin.hooks.registry import register_hook


@register_hook
class RandomPruning(RatioPruning):
    """Keep, on entering the middle layer, media tokens drawn at random for each prompt.

    The draw follows from `seed`, the prompt's token ids and each token's position, and from
    nothing else: not the batch, the padding, the device or torch's random state. A mean over
    prompts is then one over draws. Prompts that differ only inside their media have the same ids
    and draw alike; so do all prompts that come as embeddings.

    Args:
        visual_keep_ratio, audio_keep_ratio, together: as in RatioPruning.
        layer: the layer to enter, or ENTRANCE (-1); None means L // 2.
        seed: of the draw.

    Reference: the "random" row of FastAV's table of global rules (arXiv 2601.13143).
    """

    name = "random"
    lowest_layer = ENTRANCE

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
    def selector(self, view: LayerView) -> Selector:
        prompt = torch.zeros_like(view.start) if view.fingerprint is None else view.fingerprint
        stream = mix(mix(torch.full_like(prompt, self.seed)) + prompt)
        positions = view.positions - view.start[:, None]
        return best_of(mix(stream[:, None] + mix(positions)).double())


@register_hook
class UniformStride(RatioPruning):
    """Keep, on entering the middle layer, media tokens at even distances in prompt order.

    `layer` may be ENTRANCE (-1), to prune before layer 0.

    Reference: none; a control baseline.
    """

    name = "uniform"
    lowest_layer = ENTRANCE
