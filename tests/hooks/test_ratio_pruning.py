"""Keep ratios: how visual and audio tokens compete, and ties."""

from __future__ import annotations

import torch

from fastav_plugin.hooks import FastV, LowAttentive
from tests.support.views import make_view, modalities, shown

PROMPT = "tvvvvaaaat"
SCORES = torch.tensor([[0.1, 0.05, 0.2, 0.1, 0.15, 0.01, 0.02, 0.3, 0.04, 0.03]])


def test_each_modality_apart_or_together() -> None:
    view = make_view(modalities(PROMPT), scores=SCORES)
    assert shown(FastV(0.5)(view), view.modality) == ["t-v-vaaaat"]
    assert shown(FastV(0.5, 0.5)(view), view.modality) == ["t-v-v--aat"]
    # Low-attentive: all four places go to the best of both kinds.
    assert shown(LowAttentive(0.5, 0.5)(view), view.modality) == ["t-vvv--a-t"]
    assert shown(LowAttentive(0.5, 0.5, together=False)(view), view.modality) == ["t-v-v--aat"]
    assert shown(LowAttentive(0.5)(view), view.modality) == ["t-v-vaaaat"]


def test_ties_keep_the_first_and_every_row_is_its_own() -> None:
    modality = modalities("tvvvvt", "..tvvt", "...ttt")
    view = make_view(modality, scores=torch.full((3, 6), 0.2))
    assert shown(FastV(0.5)(view), modality) == ["tvv--t", "..tv-t", "...ttt"]
