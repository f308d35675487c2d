"""The one place where the server is touched: its ModelManager hands out attached models."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import pytest
import torch
from transformers.cli.serving.model_manager import ModelManager

from fastav_plugin import FastAVConfig, UnsupportedError
from fastav_plugin.binding.binding import Binding
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.words import build_tokenizer
from fastav_plugin.report import PruningReport
from fastav_plugin.serving.exchange import Exchange, exchanging
from fastav_plugin.serving.openai_server import attaching
from fastav_plugin.upstream import server
from fastav_plugin.upstream.server import HANDLER, LOADER, STREAMER
from tests.support.checkpoints import save_t5
from tests.support.small_models import config, generate, prompt, qwen2

NAME = f"{MODEL_PATH}@main"
IDS = prompt()


def ignore(name: str, report: PruningReport | None) -> None:
    """No log."""


@pytest.fixture
def text_model(tmp_path: Path) -> str:
    qwen2().save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    return f"{tmp_path}@main"


def test_every_model_is_attached_once(text_model: str) -> None:
    made: list[Any] = []

    def make_config(model: Any) -> FastAVConfig:
        made.append(model)
        return FastAVConfig.for_model(model)

    stock = getattr(ModelManager, LOADER)
    with attaching(make_config, ignore):
        manager: Any = ModelManager(device="cpu", model_timeout=-1)
        load = manager.load_model_and_processor
        with ThreadPoolExecutor(4) as pool:
            found = [model for model, _ in pool.map(load, [NAME, text_model] * 4)]
        assert len({id(model) for model in found}) == len(made) == 2
        assert all(Binding.of(model).attachments.replaces for model in found)  # type: ignore[union-attr]
        manager.shutdown()
        again, _ = load(NAME)
        assert Binding.of(again) is not None, "a model that was unloaded is attached anew"
        manager.shutdown()
    assert getattr(ModelManager, LOADER) is stock


def test_reports_come_with_the_models_name(text_model: str) -> None:
    told: list[tuple[str, PruningReport | None]] = []
    for method in ("fastav", "none"):
        make_config = functools.partial(FastAVConfig.for_model, method=method)
        with attaching(make_config, lambda name, report: told.append((name, report))):
            manager: Any = ModelManager(device="cpu", model_timeout=-1)
            model, _ = manager.load_model_and_processor(text_model)
            generate(model, IDS)
            manager.shutdown()
    assert {name for name, _ in told} == {text_model.removesuffix("@main")}
    pruned, none = (report for _, report in told)
    assert pruned is not None and pruned.reason == "the prompt holds no media tokens"
    assert none is None, "the method cuts nothing"


def test_a_model_that_cannot_be_pruned(tmp_path: Path) -> None:
    """The end at start; an answer with the reason where a request named the model."""
    save_t5(tmp_path)
    with attaching(FastAVConfig.for_model, ignore):
        with pytest.raises(UnsupportedError, match="T5"):
            ModelManager(device="cpu", force_model=str(tmp_path))
        manager: Any = ModelManager(device="cpu", model_timeout=-1)
        for _ in range(2):
            with pytest.raises(fastapi.HTTPException, match="T5") as error:
                manager.load_model_and_processor(f"{tmp_path}@main")
            assert error.value.status_code == 400
        manager.shutdown()


def test_settings_of_a_request_that_shared_pages_answer() -> None:
    """Its keys and values are not pruned, so it would be answered as if it had asked nothing."""
    state = server.generation_state()(continuous_batching=True)
    exchange = Exchange()
    with attaching(FastAVConfig.for_model, ignore), exchanging(exchange):
        assert state.get_manager(NAME, use_cb=True) is not None
        exchange.settings = {"method": "fastav"}
        with pytest.raises(UnsupportedError, match="`fastav` sets nothing of a request"):
            state.get_manager(NAME, use_cb=True)
        assert state.get_manager(NAME) is not None


def test_the_methods_come_back_after_an_error() -> None:
    places = [
        *((handler, HANDLER) for handler in server.handlers()),
        (ModelManager, LOADER),
        (server.generate_manager(), STREAMER),
    ]
    stock = [getattr(*place) for place in places]
    with pytest.raises(KeyError), attaching(FastAVConfig.for_model, ignore):
        assert all(getattr(*place) is not own for place, own in zip(places, stock, strict=True))
        manager: Any = ModelManager(device="cpu", model_timeout=-1)
        _, processor = manager.load_model_and_processor(NAME)
        assert "apply_chat_template" in vars(processor)
        manager.shutdown()
        raise KeyError
    assert [getattr(*place) for place in places] == stock
    assert "apply_chat_template" not in vars(processor)


@torch.no_grad()
def test_on_report_of_attach() -> None:
    """Told once per generate(), in order, also where a generate() is broken off."""
    from fastav_plugin import FastAVCache, attach, detach
    from tests.support.small_models import tokens

    model = qwen2()
    told: list[PruningReport | None] = []
    attach(model, config(), on_report=told.append)
    generate(model, IDS)
    assert [report.reason is not None for report in told if report] == [True]
    own = FastAVCache(config(), tokens())
    generate(model, IDS, own)
    assert told[1] is None, "a cache of the caller's has a report of its own"

    class Stop(Exception):
        pass

    def stop(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if ids.shape[1] > IDS.shape[1] + 1:
            raise Stop
        return scores

    with pytest.raises(Stop):
        generate(model, IDS, logits_processor=[stop])
    assert len(told) == 3 and told[2] is not None
    with pytest.raises(ValueError):
        generate(model, IDS, new=0)
    assert len(told) == 3, "nothing was prefilled"
    attach(model, config())
    generate(model, IDS)
    detach(model)
    generate(model, IDS)
    assert len(told) == 3
