"""What gives way to a budget, and rehearsals of hooks without a model."""

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVConfig, LayerHook
from fastav_plugin.hooks import DivPrune, method_hooks
from fastav_plugin.hooks.knobs import LayerKnob, RuleKnob
from fastav_plugin.planning.dry_run import PromptSize
from tests.support.views import make_view, modalities

SOUND = {"video": "all", "audio": "first 10 tokens"}


@pytest.mark.parametrize(("given", "start"), [(None, 14), (9, 9)])
def test_the_layer_of_the_global_cut_moves_down_only(given: int | None, start: int) -> None:
    config = FastAVConfig(global_layer=given)
    tokens = PromptSize(20, 0, 400, 100).token_map()
    ladder = LayerKnob(field="global_layer", rank=4).ladder(config, tokens, range(3, 28))
    assert ladder.values == [given, *range(start - 1, 2, -1)]
    assert ladder.default == 0
    assert ladder.values[ladder.usual] == start // 2


def test_a_rule_of_several_modalities_grows_in_proportion() -> None:
    tokens = PromptSize(20, 0, 400, 100).token_map()
    ladder = RuleKnob(field="global_rule", rank=3).ladder(
        FastAVConfig(global_rule=SOUND), tokens, range(1, 28)
    )
    assert ladder.values[0] == {"image": "all", "video": "all", "audio": "all"}
    assert ladder.values[ladder.default] == SOUND
    nothing = {"image": "all", "video": "first 0 tokens", "audio": "first 0 tokens"}
    assert ladder.values[-1] == nothing
    half = ladder.values[ladder.default + 200]
    assert half == {"image": "all", "video": "first 200 tokens", "audio": "first 5 tokens"}


def test_every_built_in_method_has_knobs_and_rehearses_as_it_acts() -> None:
    assert all(method_hooks(FastAVConfig(method=name))[0].knobs for name in ("fastav", "divprune"))
    assert not any(hook.knobs for hook in method_hooks(FastAVConfig(method="none")))
    kinds = modalities("..ttvvvvviiiaaaat", "tvvvaaatttttttttt")
    view = make_view(kinds)
    hook = DivPrune(0.6, 0.4)
    acted, rehearsed = hook(view), hook.rehearse(view)
    assert acted is not None and rehearsed is not None
    for rows in ((kinds == 2) | (kinds == 3), kinds == 4, kinds <= 1):
        assert torch.equal((acted & rows).sum(dim=1), (rehearsed & rows).sum(dim=1))


def test_a_hook_rehearses_with_its_answer_unless_it_says_otherwise() -> None:
    class Odd(LayerHook):
        def layers(self, num_layers: int) -> frozenset[int]:
            return frozenset({0})

        def __call__(self, view: Any) -> torch.Tensor:
            keep: torch.Tensor = view.positions % 2 == 0
            return keep

    view = make_view(modalities("tvvvvt"))
    rehearsed = Odd().rehearse(view)
    assert rehearsed is not None
    assert torch.equal(rehearsed, Odd()(view))
