"""The contract of a hook."""

import pytest
import torch
from torch import Tensor

import fastav_plugin.hooks
from fastav_plugin import (
    FastAVConfig,
    LayerHook,
    LayerHookList,
    LayerView,
    Modality,
    register_hook,
)
from fastav_plugin.hooks.base import HOOKS
from fastav_plugin.hooks.registry import METHODS, method_hooks
from tests.support.views import make_view, modalities


class EveryOther(LayerHook):
    """Keep every other token from some layer on."""

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(range(1, num_layers))

    def __call__(self, view: LayerView) -> Tensor | None:
        return view.positions % 2 == 0


def test_a_hook_class_must_say_where_and_what() -> None:
    with pytest.raises(TypeError):
        LayerHook()  # type: ignore[abstract]


def test_view_masks_leave_out_what_was_dropped_before() -> None:
    view = make_view(modalities(".tivavt"))
    assert view.media.tolist() == [[False, False, True, True, True, True, False]]
    alive = view.alive.clone()
    alive[0, 3] = False
    view = LayerView(**{**vars(view), "alive": alive})
    assert view.media.tolist() == [[False, False, True, False, True, True, False]]
    assert view.mask(Modality.VIDEO).sum() == 1
    assert view.mask(Modality.VIDEO, Modality.IMAGE, Modality.AUDIO).sum() == 3
    assert view.mask(Modality.TEXT).sum() == 2


def test_from_config_default_takes_no_arguments() -> None:
    hook = EveryOther.from_config(FastAVConfig())
    assert isinstance(hook, EveryOther)
    assert torch.is_tensor(hook(make_view(modalities("tv"))))


class FromHere(LayerHook):
    """Takes arguments, not all of which it keeps."""

    def __init__(self, layer: int, *, share: Tensor | float = 0.5, hidden: int = 0) -> None:
        self.layer, self.share = layer, share
        del hidden

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({self.layer})

    def __call__(self, view: LayerView) -> None:
        del view


def test_the_repr_of_a_hook_is_the_call_that_makes_it() -> None:
    assert repr(EveryOther()) == "EveryOther()"
    assert repr(FromHere(3)) == "FromHere(layer=3, share=0.5)"
    assert repr(FromHere(3, share=torch.ones(9, 9))) == "FromHere(layer=3, share=Tensor(9, 9))"
    hooks = LayerHookList([EveryOther(), FromHere(1)])
    assert repr(hooks) == "LayerHookList([EveryOther(), FromHere(layer=1, share=0.5)])"
    for hook in method_hooks(FastAVConfig(method="fastav+divprune", global_rule="below 9")):
        twin = eval(repr(hook), vars(fastav_plugin.hooks))
        assert twin.to_dict() == hook.to_dict()


def test_a_registered_hook_without_arguments_is_data() -> None:
    named = register_hook(type("Named", (EveryOther,), {"name": "a_named_one"}))
    try:
        assert named().to_dict() == {"name": "a_named_one"}
        (again,) = LayerHookList.from_list([named().to_dict()])
        assert type(again) is named
    finally:
        del HOOKS["a_named_one"], METHODS["a_named_one"]


def test_the_repr_of_a_view_counts_its_tokens() -> None:
    view = make_view(modalities(".tivavt"))
    text = f"of {view.num_layers}, 1 row of 7: 2 text, 1 image, 2 video, 1 audio tokens, 1 padding)"
    place = "entrance" if view.layer < 0 else f"layer {view.layer}"
    assert repr(view) == f"LayerView({place} {text}"
