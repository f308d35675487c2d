"""The model inside its wrappers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import UnsupportedError
from fastav_plugin.binding.wrappers import unwrap
from tests.support.small_models import qwen2


class Around(torch.nn.Module):
    """As PEFT wraps a model."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def get_base_model(self) -> Any:
        return self.inner


def test_wrappers_are_taken_off() -> None:
    model = qwen2()
    assert unwrap(model) is model
    assert unwrap(Around(Around(model))) is model
    assert unwrap(torch.compile(Around(model))) is model


@pytest.mark.parametrize("wrong", [None, "model", 3])
def test_what_is_no_model(wrong: Any) -> None:
    with pytest.raises(UnsupportedError, match="Expected a model"):
        unwrap(wrong)
    with pytest.raises(UnsupportedError, match="DataParallel"):
        unwrap(torch.nn.DataParallel(qwen2()))
