"""The contract of a hook."""

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVConfig, LayerHook, LayerView, Modality
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
