"""SCOPE."""

import torch

from fastav_plugin.functional.selectors.coverage import covering_picks
from fastav_plugin.hooks import Scope
from tests.hooks.test_feature_pruning import PROMPT, featured
from tests.support.views import AUDIO, VIDEO


def test_it_covers_each_modality_apart() -> None:
    view = featured(PROMPT)
    keep = Scope(0.25, 0.4)(view)
    assert keep is not None
    for kind, count in ((VIDEO, 6), (AUDIO, 6)):
        index = (view.modality[0] == kind).nonzero().squeeze(1)
        picks = covering_picks(view.hidden_states[0, index], count)
        wanted = torch.zeros_like(keep[0])
        wanted[index[picks]] = True
        assert torch.equal(keep[0] & (view.modality[0] == kind), wanted)


def test_one_of_each_kind_is_kept() -> None:
    """Copies of a token are covered by one of them."""
    view = featured("t" + "v" * 24 + "t")
    view.hidden_states[0, 1:25] = torch.eye(16)[torch.arange(24) % 4]
    keep = Scope(4 / 24)(view)
    assert keep is not None
    assert sorted((keep[0, 1:25].nonzero().squeeze(1) % 4).tolist()) == [0, 1, 2, 3]
