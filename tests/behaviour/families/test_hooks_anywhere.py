"""Hooks of the user's own, at every layer where a cut can be made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin import LayerHook, LayerHookList, LayerView, Modality
from tests.support.cases import assert_close, config_of, prune, reference, rows_of
from tests.support.families import FAMILIES
from tests.support.family_configs import LAYERS

ENTRANCE = -1


class DropEvery(LayerHook):
    """Drops the media tokens whose position leaves a remainder; wants to drop text as well."""

    name = "test_drop_every"

    def __init__(self, place: int, step: int, remainder: int = 0) -> None:
        self.place = place
        self.step = step
        self.remainder = remainder

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({self.place})

    def __call__(self, view: LayerView) -> Tensor:
        # Counted from the first real token, so that padding changes nothing.
        return (view.positions - view.start[:, None]) % self.step != self.remainder


class DropAll(DropEvery):
    """Wants to drop every token."""

    name = "test_drop_all"

    def __call__(self, view: LayerView) -> Tensor:
        return torch.zeros_like(view.alive)


PLACES: dict[str, list[DropEvery]] = {
    "entrance": [DropEvery(ENTRANCE, 3)],
    "layer_0": [DropEvery(0, 3)],
    "both_at_0": [DropEvery(ENTRANCE, 3), DropEvery(0, 4), DropEvery(0, 5)],
    "last_layer": [DropEvery(LAYERS - 1, 2)],
    "many": [DropEvery(place, 5, place) for place in (ENTRANCE, 0, 2, 3, 4, LAYERS - 1)],
    "all_at_0": [DropAll(0, 1)],
    "all_at_2": [DropEvery(ENTRANCE, 4), DropAll(2, 1)],
}


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(("attention", "shape"), [("sdpa", "ragged"), ("eager", "lopsided")])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_anywhere_equals_masked_dense(
    name: str, attention: str, shape: str, places: str
) -> None:
    asked = PLACES[places]
    items = rows_of(name, shape)
    result = prune(name, attention, items, config_of(name, "none", hooks=LayerHookList(asked)))
    assert_close(result.run.logits, reference(name, attention, items, result).logits)
    for index, item in enumerate(items):
        media = [row for row, kind in enumerate(item.kinds) if kind > Modality.TEXT]
        text = len(item) - len(media)
        alive = len(media)
        for layer, mask in enumerate(result.held):
            kept = [row for row in media if mask[index, mask.shape[1] - len(item) + row]]
            assert int(mask[index].sum()) == text + len(kept)
            here = {layer, ENTRANCE} if layer == 0 else {layer}
            if media and any(type(hook) is DropAll and hook.place in here for hook in asked):
                assert len(kept) == 1
            assert len(kept) <= alive
            alive = len(kept)
