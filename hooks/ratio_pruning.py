"""RatioPruning: what one-layer methods with keep ratios have in common."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_integer, check_ratio
from fastav_plugin.functional.top_k import Selector, best_of, counts_of, spread_evenly
from fastav_plugin.hooks.base import VISUAL, LayerView
from fastav_plugin.hooks.pictures import scores_with_neighbours
from fastav_plugin.hooks.plannable import OneLayerHook, shallow_ranking
from fastav_plugin.tokens import Modality

#: Keep ratios as constructor arguments, and as fields of FastAVConfig.
KEEP_RATIOS = {"visual_keep_ratio": "visual_keep_ratio", "audio_keep_ratio": "audio_keep_ratio"}


class RatioPruning(OneLayerHook):
    """Keep a share of the media tokens on entering one layer; a subclass says which ones.

    Each batch row keeps `max(1, round(ratio * n))` of its n image and video tokens, and of its
    audio tokens by a ratio of their own. The config's `visual_keep_ratio`, `audio_keep_ratio`
    and `global_layer` are the arguments.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens; None keeps all audio.
        layer: the layer to enter; None means `default_layer`.
        together: whether visual and audio tokens compete for the sum of their counts.
    """

    config_fields: ClassVar[Mapping[str, str]] = {**KEEP_RATIOS, "layer": "global_layer"}
    #: Whether visual and audio tokens compete unless said otherwise.
    competes: ClassVar[bool] = False

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        together: bool | None = None,
    ) -> None:
        super().__init__(layer)
        check_ratio("visual_keep_ratio", visual_keep_ratio, "(0, 1]")
        check_ratio("audio_keep_ratio", audio_keep_ratio, "(0, 1]", optional=True)
        self.visual_keep_ratio = visual_keep_ratio
        self.audio_keep_ratio = audio_keep_ratio
        self.together = self.competes if together is None else together

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return self._keep(view, self.selector(view))

    @override
    def dry_run(self, view: LayerView) -> Tensor | None:
        return self._keep(view, spread_evenly)

    def selector(self, view: LayerView) -> Selector:
        """What chooses among the candidates. Default: at even distances."""
        return spread_evenly

    def groups(self, view: LayerView) -> list[tuple[Tensor, float]]:
        """The visual tokens, and the audio tokens if they have a ratio (bool [B, T]), with both."""
        found = [(view.mask(*VISUAL), self.visual_keep_ratio)]
        if self.audio_keep_ratio is not None:
            found.append((view.mask(Modality.AUDIO), self.audio_keep_ratio))
        return found

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        """Those of the visual tokens and those of the audio tokens, or of both together."""
        if not self.states_selection:
            return None
        groups = [tokens for tokens, ratio in self.groups(view) if ratio < 1]
        if self.together and len(groups) == 2:
            groups = [groups[0] | groups[1]]
        spent = torch.zeros_like(view.start)
        for tokens in groups:
            kept = (tokens & keep).sum(dim=1)
            spent = spent + self.selection_macs(tokens.sum(dim=1), kept, width)
        return spent

    def _keep(self, view: LayerView, select: Selector) -> Tensor:
        """Bool [B, T], True for each token to keep."""
        counted = [(mask, counts_of(mask.sum(dim=1), ratio)) for mask, ratio in self.groups(view)]
        if self.together and len(counted) == 2:
            (visual, first), (audio, second) = counted
            counted = [(visual | audio, first + second)]
        keep = torch.ones_like(view.alive)
        for tokens, counts in counted:
            keep &= ~tokens | select(tokens, counts)
        return keep


class ScorePruning(RatioPruning):
    """RatioPruning by attention: the tokens with the highest scores are kept.

    Args:
        visual_keep_ratio, audio_keep_ratio, layer, together: as in RatioPruning.
        neighbours: N, so that a token within N of an attended one has at least 0.9 of its score:
            N positions of the segment, or N patches in each direction of a picture with known
            lines. 0 leaves scores as they are. Meant for one cut: on a real language model it
            gained in a single cut, and lost where cuts are repeated.
        columns: patches of a line, in pictures and frames that are grids, for `neighbours` (24 of
            LLaVA-1.5); None takes them as sequences.
    """

    needs_scores = True

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        together: bool | None = None,
        neighbours: int = 0,
        columns: int | None = None,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio, layer, together)
        check_integer("neighbours", neighbours, minimum=0)
        check_integer("columns", columns, minimum=1, optional=True)
        self.neighbours = neighbours
        self.columns = columns

    @override
    def selector(self, view: LayerView) -> Selector:
        assert view.scores is not None
        if self.neighbours:
            return best_of(scores_with_neighbours(view, self.neighbours, self.columns))
        return best_of(view.scores)

    @override
    def caution(self, num_layers: int) -> str | None:
        return shallow_ranking(self.name, min(self.layers(num_layers)), num_layers)
