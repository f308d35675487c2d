"""Each selector keeps what it is asked to keep, as its hook would."""

import pytest
import torch

from fastav_plugin.lab.bench.selectors import QUESTION, clip_view, selector_calls


@pytest.mark.parametrize("keep", [1, 12, 59, 60])
def test_as_many_as_asked(keep: int) -> None:
    features = torch.randn(60 + QUESTION, 16, generator=torch.Generator().manual_seed(0))
    calls = selector_calls(clip_view(features, 12), keep)
    assert next(iter(calls)) == "divprune"
    for name, call in calls.items():
        picks = call()
        assert len(picks) == keep, name
        assert int(picks.amax()) < 60
        assert torch.equal(call(), picks)
