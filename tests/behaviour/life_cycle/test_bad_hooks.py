"""LayerHooks that break their contract: one clear error, and the model works afterwards."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, HookError, LayerHook, LayerHookList, LayerView
from tests.support.small_models import LENGTH, generate, prompt, tokens
from tests.support.witness import Witness

IDS = prompt()


class Custom(LayerHook):
    """Returns whatever it was made with."""

    name: ClassVar[str] = "custom"

    def __init__(self, answer: Any, places: frozenset[int] = frozenset({1})) -> None:
        self.answer, self.places = answer, places

    def layers(self, num_layers: int) -> frozenset[int]:
        return self.places

    def __call__(self, view: LayerView) -> Tensor | None:
        answer: Tensor | None = self.answer(view) if callable(self.answer) else self.answer
        return answer


def hooked(*hooks: LayerHook) -> FastAVCache:
    return FastAVCache(FastAVConfig(hooks=LayerHookList(hooks), min_media_tokens=1), tokens())


@pytest.mark.parametrize(
    "answer",
    [
        torch.ones(1, LENGTH - 1, dtype=torch.bool),
        torch.ones(2, LENGTH, dtype=torch.bool),
        torch.ones(LENGTH, dtype=torch.bool),
        torch.ones(1, LENGTH, 1, dtype=torch.bool),
        torch.ones(1, LENGTH),
        torch.ones(1, LENGTH, dtype=torch.int64),
        torch.arange(LENGTH),
        True,
        [True] * LENGTH,
        "all",
    ],
)
def test_a_hook_that_answers_nonsense(witness: Witness, answer: Any) -> None:
    with pytest.raises(HookError, match=rf"Custom must return bool \(1, {LENGTH}\)"):
        generate(witness.model, IDS, hooked(Custom(answer)))


def test_a_hook_that_raises(witness: Witness) -> None:
    def answer(view: LayerView) -> Tensor:
        raise KeyError("mine")

    past = hooked(Custom(answer))
    with pytest.raises(KeyError, match="mine") as caught:
        generate(witness.model, IDS, past)
    (note,) = caught.value.__notes__
    assert note.startswith("In the pruning hook Custom(answer=<function")
    assert note.endswith("on entering layer 1.")


def test_a_hook_with_a_misspelt_name(witness: Witness) -> None:
    past = hooked(Custom(lambda view: view.positons > 3, frozenset({-1})))
    with pytest.raises(AttributeError, match="positons") as caught:
        generate(witness.model, IDS, past)
    assert caught.value.__notes__[0].endswith("at the entrance.")


@pytest.mark.parametrize("place", [-2, 4, 99])
def test_a_hook_that_asks_for_a_layer_that_is_not_there(witness: Witness, place: int) -> None:
    with pytest.raises(HookError, match=rf"\[{place}\].*0\.\.3"):
        generate(witness.model, IDS, hooked(Custom(None, frozenset({0, place}))))


@pytest.mark.parametrize("place", [-1, 0, 1, 3])
def test_a_hook_that_drops_everything_keeps_a_usable_model(witness: Witness, place: int) -> None:
    """Text, the last token and one media token are protected by the engine."""
    past = hooked(Custom(lambda view: torch.zeros_like(view.alive), frozenset({place})))
    out = generate(witness.model, IDS, past)
    witness.layers_run = 0
    assert torch.isfinite(out.logits[0]).all()
    report = past.report()
    assert report.modality_per_layer["text"] == [7] * 4
    kinds = report.modality_per_layer
    media = [a + v for a, v in zip(kinds["audio"], kinds["video"], strict=True)]
    assert media[max(place, 0) :] == [1] * (4 - max(place, 0))


def test_nor_the_hooks_that_come_after_it(witness: Witness) -> None:
    def vandal(view: LayerView) -> Tensor:
        wanted = view.positions % 2 == 0
        for name in ("alive", "modality", "positions", "segment", "frame"):
            getattr(view, name).zero_()
        return wanted

    def quiet(view: LayerView) -> Tensor:
        return view.positions % 2 == 0

    rows = []
    for first in (vandal, quiet):
        past = hooked(Custom(first), Custom(lambda view: view.positions % 3 == 0))
        generate(witness.model, IDS, past)
        rows.append(past.report().kept_positions(1))
    witness.layers_run = 0
    assert rows[0] == rows[1]
    assert len(rows[0]) < LENGTH
