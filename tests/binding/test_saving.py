"""An attached model saves its settings, and finds them again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from fastav_plugin import (
    FastAVConfig,
    LayerHook,
    LayerHookList,
    LayerView,
    attach,
    detach,
)
from fastav_plugin.binding.binding import Binding
from fastav_plugin.config import CONFIG_NAME
from tests.support.small_models import config, qwen2


class Unsaved(LayerHook):
    """A hook that is not registered, so that no file can name it."""

    name: ClassVar[str] = "unsaved"

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({1})

    def __call__(self, view: LayerView) -> Tensor | None:
        return None


def settings_of(model: Any) -> FastAVConfig:
    binding = Binding.of(model)
    assert binding is not None and binding.attachments.everywhere is not None
    return binding.attachments.everywhere.config


@pytest.mark.parametrize("wanted", [None, config(method="divprune", visual_keep_ratio=0.25)])
def test_saved_loaded_attached_is_the_same(tmp_path: Path, wanted: FastAVConfig | None) -> None:
    model = qwen2()
    attach(model, wanted)
    first = settings_of(model)
    model.save_pretrained(tmp_path)
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    attach(again)
    assert settings_of(again) == first
    assert settings_of(again).source == str(tmp_path / CONFIG_NAME)


def test_the_log_says_where_settings_come_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = qwen2()
    with caplog.at_level(logging.INFO, "fastav_plugin"):
        attach(model)
    assert "method fastav. Settings: the family's defaults" in caplog.text


def test_detach_gives_saving_back(tmp_path: Path) -> None:
    model = qwen2()
    stock = dict(vars(model))
    attach(model, config())
    attach(model, config())
    assert "save_pretrained" in vars(model)
    detach(model)
    assert vars(model).keys() == stock.keys()
    assert model.save_pretrained.__func__ is type(model).save_pretrained
    model.save_pretrained(tmp_path)
    assert not (tmp_path / CONFIG_NAME).exists()


def test_a_saving_of_the_users_own(tmp_path: Path) -> None:
    model = qwen2()
    calls: list[Any] = []
    model.save_pretrained = calls.append
    attach(model, config())
    model.save_pretrained(tmp_path)
    assert calls == [tmp_path]
    assert (tmp_path / CONFIG_NAME).exists()
    detach(model)
    assert model.save_pretrained == calls.append


def test_a_wrapper_around_the_model_saves_them_too(tmp_path: Path) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def get_base_model(self) -> Any:
            return self.inner

        def save_pretrained(self, save_directory: Any, is_main_process: bool = True) -> str:
            return f"saved in {save_directory}"

    wrapper: Any = Wrapper(qwen2())
    attach(wrapper, config())
    assert wrapper.save_pretrained(tmp_path, is_main_process=False) == f"saved in {tmp_path}"
    assert not (tmp_path / CONFIG_NAME).exists()
    wrapper.save_pretrained(tmp_path)
    assert FastAVConfig.from_pretrained(tmp_path) == config()
    detach(wrapper)
    assert "save_pretrained" not in vars(wrapper)
    assert "save_pretrained" not in vars(wrapper.inner)


def test_settings_that_cannot_be_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The model is what matters; the log says that its settings are not beside it."""
    model = qwen2()
    attach(model, FastAVConfig(hooks=LayerHookList([Unsaved()])))
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / CONFIG_NAME).exists()
    assert f"saved in '{tmp_path}' without its {CONFIG_NAME}" in caplog.text
    assert "Unsaved is not registered" in caplog.text
