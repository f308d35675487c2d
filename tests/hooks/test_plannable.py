"""What planning may know of a hook beside its contract."""

import re

import pytest
import torch
from torch import Tensor

from fastav_plugin import ConfigError, FastAVConfig, LayerHook, LayerHookList, LayerView
from fastav_plugin.hooks import (
    METHODS,
    AdaptivePruning,
    DivPrune,
    FinePruning,
    LateRemoval,
    method_hooks,
)
from fastav_plugin.hooks.plannable import cautions, counts_vary, tunable_fields
from fastav_plugin.planning.candidates import TUNABLE
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens
from tests.support.views import make_view, modalities


class Odd(LayerHook):
    """An author's hook that knows nothing of planning."""

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({1})

    def __call__(self, view: LayerView) -> Tensor | None:
        return view.positions % 2 == 1


def test_a_dry_run_keeps_as_many_of_each_modality() -> None:
    kinds = modalities("..ttvvvvviiiaaaat", "tvvvaaatttttttttt")
    view = make_view(kinds)
    hook = DivPrune(0.6, 0.4)
    kept, dry = hook(view), hook.dry_run(view)
    assert kept is not None and dry is not None
    for tokens in ((kinds == 2) | (kinds == 3), kinds == 4, kinds <= 1):
        assert torch.equal((kept & tokens).sum(dim=1), (dry & tokens).sum(dim=1))


def test_a_hook_without_planning_members_is_planned_by_its_answer() -> None:
    config = FastAVConfig(hooks=LayerHookList([Odd()]))
    counts, reason = plan_tokens(config, PromptSize(2, 0, 100, 0).token_map(), 3)
    # Positions 1..100 are video, half of them odd; two are text.
    assert reason is None
    assert counts == [[102, 52, 52]]


def test_counts_vary_if_they_do_for_one_hook() -> None:
    hooks: list[LayerHook] = [Odd(), FinePruning()]
    assert not counts_vary(hooks)
    assert counts_vary([*hooks, AdaptivePruning()])


def test_built_in_methods_name_fields_that_a_budget_knows() -> None:
    def tunable(method: str) -> set[str]:
        return tunable_fields(method_hooks(FastAVConfig(method=method)))

    assert tunable("fastav") == {"global_rule", "global_layer", "fine_drop_ratio"}
    assert tunable("divprune") == {"visual_keep_ratio", "audio_keep_ratio"}
    assert tunable("none") == set()
    assert tunable("adaptive+fine_pruning") == {"fine_drop_ratio"}
    assert set().union(*map(tunable, METHODS)) == set(TUNABLE)


def test_an_unreachable_budget_suggests_divprune_unless_it_is_there() -> None:
    from transformers import Qwen2Config

    def message(method: str) -> str:
        with pytest.raises(ConfigError) as caught:
            FastAVConfig.for_model(
                Qwen2Config(num_hidden_layers=4),
                method,
                target_flops=0.001,
                prompt={"text": 50, "video": 200},
            )
        return str(caught.value)

    assert "add DivPrune" in message("fastav")
    for method in ("divprune", "fastav+divprune", "divprune_by_frame"):
        assert "add DivPrune" not in message(method)


def said(config: FastAVConfig, num_layers: int = 28) -> list[str]:
    return cautions(method_hooks(config), num_layers)


@pytest.mark.parametrize(
    ("method", "layer", "where"),
    [
        ("vtw", None, "'vtw' drops all media on entering layer 14 of 28"),
        ("vtw", 22, "on entering layer 22 of 28.*here layer 23"),
        ("fastv", None, "'fastv' ranks media by attention on entering layer 2 of 28"),
        ("pyramid_drop", None, "'pyramid_drop' ranks.*on entering layer 7 of 28.*layer 14"),
        ("low_attentive", 13, "'low_attentive' ranks.*layer 13 of 28"),
        ("fastav", 5, "'fine_pruning' ranks.*layer 6 of 28"),
    ],
)
def test_methods_outside_of_what_works_say_so(method: str, layer: int | None, where: str) -> None:
    (text,) = said(FastAVConfig(method=method, global_layer=layer))
    assert re.search(where, text)


@pytest.mark.parametrize(
    ("method", "layer"),
    [
        ("vtw", 23),
        ("late_removal", None),
        ("fastav+late_removal", None),
        ("low_attentive", None),
        ("divprune", None),
        ("none", None),
    ],
)
def test_methods_inside_of_what_works_are_silent(method: str, layer: int | None) -> None:
    assert said(FastAVConfig(method=method, global_layer=layer)) == []


def test_any_hook_may_warn_and_each_sentence_is_said_once() -> None:
    class Cautious(Odd):
        def caution(self, num_layers: int) -> str | None:
            return f"Odd on {num_layers} layers."

    assert cautions([Odd(), Cautious(), Cautious()], 3) == ["Odd on 3 layers."]
    assert "0.5 of the depth" not in str(cautions([LateRemoval(0.82)], 30))
    assert [cautions([LateRemoval()], layers) for layers in range(2, 60)] == [[]] * 58
    (text,) = cautions([LateRemoval(0.5)], 30)
    assert "'late_removal' drops all media on entering layer 15 of 30" in text
