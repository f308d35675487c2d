"""Weights that accelerate keeps elsewhere and loads for each call change no token."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.layers.attention import OBSERVER
from fastav_plugin.pruning.bound_model import Decoder
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.prompt import Prompt, hooks_by_place
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import CACHE
from tests.support.cases import config_of, prune, rows_of
from tests.support.families import KNOWN, build, map_of
from tests.support.family_configs import hub
from tests.support.oracle import decoder_layers, run
from tests.support.prompts import PAD

if importlib.util.find_spec("accelerate") is None:
    pytest.skip("accelerate is not installed", allow_module_level=True)

import accelerate
from accelerate.utils import send_to_device

CPU = torch.device("cpu")


def to_cpu(model: Any, folder: Path) -> Any:
    return accelerate.cpu_offload(model, execution_device=CPU)


def with_buffers(model: Any, folder: Path) -> Any:
    return accelerate.cpu_offload(model, execution_device=CPU, offload_buffers=True)


def to_disk(model: Any, folder: Path) -> Any:
    return accelerate.disk_offload(model, str(folder), execution_device=CPU)


def every_other_layer(model: Any, folder: Path) -> Any:
    """A device map: every other decoder layer on disk, all else in memory."""
    layers = {id(layer): index for index, layer in enumerate(decoder_layers(model))}
    places: dict[str, str] = {}

    def visit(name: str, module: torch.nn.Module) -> None:
        if id(module) in layers:
            places[name] = "disk" if layers[id(module)] % 2 else "cpu"
        elif any(id(inner) in layers for inner in module.modules()):
            for child, inner in module.named_children():
                visit(f"{name}.{child}".lstrip("."), inner)
        else:
            places[name] = "cpu"

    visit("", model)
    return accelerate.dispatch_model(
        model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True
    )


WAYS = [to_cpu, with_buffers, to_disk, every_other_layer]
METHODS = ("fastav", "divprune", "fastav+divprune")


def check(name: str, method: str, way: Callable[[Any, Path], Any], how: str, folder: Path) -> None:
    """An offloaded model says and keeps, bit for bit, what the model in memory does."""
    family, rows = KNOWN[name], rows_of(name, "ragged")
    config = config_of(name, method)
    expected = prune(name, "sdpa", rows, config)
    model, cache = build(name), None
    if how == "before":
        attach(model, config)
    model = way(model, folder)
    assert any(weight.is_meta for weight in model.parameters())
    if how == "after":
        attach(model, config)
    if how == "explicit":
        cache = FastAVCache(config, family.token_map(rows))
    result = run(model, family.batch(rows), cache)
    detach(model)
    held: Any = cache_in(result.output)
    assert isinstance(held, FastAVCache)
    assert torch.equal(result.logits, expected.run.logits)
    layers = zip(held.fastav_request.layers, expected.cache.fastav_request.layers, strict=True)
    assert all(torch.equal(mine.positions, yours.positions) for mine, yours in layers)


@pytest.mark.parametrize("how", ["explicit", "before", "after"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_offloaded_model(way: Any, how: str, tmp_path: Path) -> None:
    check("omni_all", "fastav+divprune", way, how, tmp_path)


def test_a_model_that_must_be_probed(tmp_path: Path) -> None:
    """The probe's tiny copy is made from the configuration, for the weights are not there."""
    check("qwen2_text", "fastav+divprune", to_cpu, "explicit", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "gemma3", "omni_interleaved"])
def test_the_matrix(name: str, method: str, way: Any, tmp_path: Path) -> None:
    check(name, method, way, "explicit", tmp_path)


def test_a_model_loaded_with_a_device_map(tmp_path: Path) -> None:
    rows, config = rows_of("llava", "ragged"), config_of("llava", "fastav+divprune")
    expected = prune("llava", "sdpa", rows, config)
    build("llava").save_pretrained(tmp_path)
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu", "lm_head": "cpu"}
    places |= {"model.language_model": "disk"}
    model = hub.LlavaForConditionalGeneration.from_pretrained(
        tmp_path, device_map=places, offload_folder=tmp_path / "offload"
    )
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    attach(model, config)
    result = run(model, KNOWN["llava"].batch(rows))
    detach(model)
    assert torch.equal(result.logits, expected.run.logits)


def test_models_that_take_turns_on_the_device() -> None:
    """accelerate moves a whole model in when it is called, and out when the next one is."""
    rows, config = rows_of("llava", "ragged"), config_of("llava", "fastav+divprune")
    expected = prune("llava", "sdpa", rows, config)
    first, _ = accelerate.cpu_offload_with_hook(build("llava"), execution_device=CPU)
    second, hook = accelerate.cpu_offload_with_hook(build("llava"), execution_device=CPU)
    for model in (first, second, first):
        result = run(model, KNOWN["llava"].batch(rows), FastAVCache(config))
        assert torch.equal(result.logits, expected.run.logits)
        detach(model)
    hook.offload()


def test_what_accelerate_walks_through_stays_the_same_object() -> None:
    """It moves whatever has `to`, and rebuilds lists and mappings."""
    rows = rows_of("llava", "single")
    cache = FastAVCache(config_of("llava", "fastav"))
    request: Any = cache.fastav_request
    prompt = Prompt(map_of(rows), request.config, hooks_by_place(request.hooks, 4))
    observer = Prefill(prompt, Decoder(4)).observer
    sent = send_to_device({OBSERVER: observer, CACHE: cache}, CPU)
    assert sent[OBSERVER] is observer
    assert sent[CACHE] is cache
