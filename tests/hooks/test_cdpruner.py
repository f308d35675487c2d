"""CDPruner: relevance to the question, and its sign."""

from dataclasses import replace

import torch

from fastav_plugin.functional.selectors.determinantal import determinantal_picks
from fastav_plugin.hooks import CDPruner
from tests.hooks.test_feature_pruning import PROMPT, featured
from tests.support.views import VIDEO, shown


def test_the_kernel_of_the_question() -> None:
    view = featured(PROMPT)
    states = view.hidden_states[0]
    video = (view.modality[0] == VIDEO).nonzero().squeeze(1)
    units = torch.nn.functional.normalize(states, dim=1)
    similarity = (units[video] @ units[-3:].T).mean(dim=1)
    for sign in (1, -1):
        scaled = sign * similarity
        relevance = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        wanted = video[determinantal_picks(states[video], relevance, 6)]
        keep = CDPruner(0.25, negated=sign < 0)(view)
        assert keep is not None
        found = (keep[0] & (view.modality[0] == VIDEO)).nonzero().squeeze(1)
        assert torch.equal(found, wanted.sort().values)


def test_relevant_tokens_go_first() -> None:
    states = torch.eye(16)[[0, 1, 2, 3, 4, 5, 6, 0]][None].clone()
    states[0, 3:5] += 0.5 * states[0, 7]
    view = replace(featured("tvvvvvvt"), hidden_states=states)
    assert shown(CDPruner(0.34)(view), view.modality) == ["t--vv--t"]
    assert "v" not in shown(CDPruner(0.34, negated=True)(view), view.modality)[0][3:5]


def test_all_are_relevant_where_none_is_more() -> None:
    states = torch.eye(16)[[9, 1, 1, 1, 2, 2, 3, 9]][None].clone()
    view = replace(featured("tvvvvvvt"), hidden_states=states)
    assert shown(CDPruner(0.5)(view), view.modality) == ["tv--v-vt"]


def test_settings() -> None:
    assert CDPruner(0.3, negated=True).to_dict() == {
        "name": "cdpruner",
        "visual_keep_ratio": 0.3,
        "audio_keep_ratio": None,
        "negated": True,
    }
