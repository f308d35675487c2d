"""What a launch may ask of a pruned model, and how it is loaded."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig, UnsupportedError
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.model_overrides.tgi import kv_budget, loading, log, models
from fastav_plugin.model_overrides.tgi.launch_settings import BUDGET
from fastav_plugin.model_overrides.tgi.launcher import Command
from fastav_plugin.model_overrides.tgi.loading import Rank
from tests.model_overrides.tgi.processors import PROCESSORS, tokenizer
from tests.model_overrides.tgi.served import Served, Shard, ask
from tests.support.checkpoints import word
from tests.support.families import KNOWN

pytestmark = [pytest.mark.double, pytest.mark.usefixtures("tgi_double")]

STOCK: dict[str, Any] = {
    "model_id": str(MODEL_PATH),
    "lora_adapter_ids": [],
    "revision": None,
    "sharded": False,
    "quantize": None,
    "speculate": None,
    "dtype": None,
    "kv_cache_dtype": None,
    "trust_remote_code": False,
    "max_input_tokens": None,
}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lora_adapter_ids", ["one"]),
        ("quantize", "awq"),
        ("speculate", 2),
        ("kv_cache_dtype", "fp8_e5m2"),
        ("dtype", "int8"),
    ],
)
def test_options_that_pruned_models_do_not_have_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=str(value)):
        models.get_model(**{**STOCK, option: value})


@pytest.fixture(scope="module")
def served(tgi_double: None, tmp_path_factory: pytest.TempPathFactory) -> Served:
    config = FastAVConfig(method="fastav", global_rule="below 40", min_media_tokens=1)
    return Served.load(MODEL_PATH, config, tmp_path_factory.mktemp("config"))


def test_a_model_is_loaded_as_the_launch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAV_MODEL_OVERRIDE", "divprune")
    model = models.get_model(**STOCK | {"dtype": "bfloat16", "kv_cache_dtype": "auto"})
    assert model.dtype == torch.bfloat16 == next(model.model.parameters()).dtype
    assert model.loaded.config.method == "divprune"
    assert (model.requires_padding, model.support_chunking, model.speculate) == (True, False, 0)
    assert model.quantize is None and model.tokenizer.padding_side == "left"


def test_the_device_and_the_checkpoint_say_the_precision() -> None:
    config = KNOWN["llava"].model().config
    assert loading._default_dtype(config, torch.device("cpu")) == torch.float32
    config = type(config)(dtype=torch.bfloat16)
    assert loading._default_dtype(config, torch.device("cuda")) == torch.bfloat16
    config = type(config)(dtype=torch.float32)
    assert loading._default_dtype(config, torch.device("cuda")) == torch.float16


def test_ranks_share_a_model_as_the_environment_says() -> None:
    assert Rank.from_environment({}) == Rank(0, 1, False)
    two = {"RANK": "1", "WORLD_SIZE": "2"}
    assert Rank.from_environment(two) == Rank(1, 2, True)
    assert Rank.from_environment({**two, loading.SHARDING: "replicate"}) == Rank(1, 2, False)
    with pytest.raises(ConfigError, match="tensor, replicate"):
        Rank.from_environment({loading.SHARDING: "both"})


def test_a_model_of_words_takes_links_for_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KNOWN["llama_text"].model().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    served = Served.load(tmp_path, FastAVConfig(method="none"), tmp_path / "config")
    assert served.model.loaded.reader.layout.takes == frozenset()
    text = f"{word(10)} ![](http://nowhere.test/x.png) {word(11)}"
    batch = served.batch(0, ask(0, text, b"the router's picture"))
    assert batch.input_lengths == [3]
    shard = Shard(served)
    shard.prefill(0, ask(0, text))
    shard.finish()
    shard.said[0].check(served.alone(ask(0, text)))


def test_every_end_of_an_answer_is_told(tmp_path: Path) -> None:
    words = tokenizer(eos_token=word(7))
    loading._name_ends(words, FastAVConfig, None)
    words.pad_token = None
    ends = type("Ends", (), {"eos_token_id": [5, 7]})()
    loading._name_ends(words, ends, None)
    assert words._eos_token_ids == {5, 7} and words.pad_token_id == 7
    bare = tokenizer()
    bare.pad_token = None
    loading._name_ends(bare, None, type("One", (), {"eos_token_id": 9})())
    assert bare.eos_token_id == bare.pad_token_id == 9
    endless = tokenizer()
    endless.pad_token = None
    loading._name_ends(endless, None, None)
    assert endless.pad_token == "[PAD]"


def test_the_memory_left_is_counted_in_unpruned_tokens(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = served.model.loaded
    config = loaded.head.config.text_config
    size = config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * size * 4
    assert kv_budget.token_bytes(loaded) == each
    monkeypatch.setattr(kv_budget, "free_bytes", lambda device: 1000 * each)
    supported = kv_budget.supported_tokens
    assert supported(loaded, 10, {}) == 900
    assert supported(loaded, 10, {kv_budget.ROOM: "0.5"}) == 500
    # The router refuses to start where the longest request has no room; an error later is worse.
    assert supported(loaded, 5000, {}) == 900
    copies = dataclasses.replace(loaded, world_size=2)
    assert supported(copies, 10, {}) == 450
    half = supported(loaded, 10, {kv_budget.MEDIA_SHARE: "0.5"})
    most = supported(loaded, 10, {kv_budget.MEDIA_SHARE: "0.95"})
    assert half is not None and most is not None and 900 < half < most
    assert supported(loaded, 10, {BUDGET: "64"}) == 64
    assert supported(loaded, 100, {BUDGET: "64"}) == 100
    with pytest.raises(ConfigError, match="number of tokens"):
        supported(loaded, 10, {BUDGET: "all"})
    monkeypatch.setattr(kv_budget, "free_bytes", lambda device: None)
    assert supported(loaded, 10, {}) is None
    for value in ("1", "-0.1", "many"):
        with pytest.raises(ConfigError, match="share"):
            supported(loaded, 10, {kv_budget.MEDIA_SHARE: value})


@pytest.mark.parametrize(
    "given", [["--max-batch-total-tokens", "64"], ["--max-batch-total-tokens=64"]]
)
def test_the_launcher_repeats_what_the_router_would_not_heed(given: list[str]) -> None:
    for override, expected in (("fastav", "64"), (None, None)):
        options = [] if override is None else ["--model-override", override]
        environment: dict[str, str] = {}
        command = Command.parse([*given, *options])
        command.add_to(environment)
        assert environment.get(BUDGET) == expected
        assert command.rest == given


def test_a_token_takes_as_much_memory_as_is_counted(served: Served) -> None:
    """The count is of what a cache holds of words, but for the room it keeps to grow."""
    prompts = served.batch(0, ask(0, "Which colour is the circle?")).past_key_values.prompts
    _, cache = served.model.generation.prefill(prompts)
    held = sum(layer.nbytes for layer in cache.layers)
    assert held == kv_budget.token_bytes(served.model.loaded) * len(prompts[0].ids)
    free = kv_budget.free_bytes(torch.device("cpu"))
    assert free is not None and free > held


def test_a_model_without_its_own_video_counts_pictures(
    tmp_path: Path,
) -> None:
    KNOWN["llava"].model().save_pretrained(tmp_path)
    PROCESSORS["llava"]().save_pretrained(tmp_path)
    config = FastAVConfig(method="divprune", visual_keep_ratio=0.25, min_media_tokens=1)
    loaded = Served.load(tmp_path, config, tmp_path / "config").model.loaded
    assert kv_budget.kept_share(loaded, 0.5) == pytest.approx(0.5 + 0.5 * 0.25, abs=0.01)


def test_errors_of_a_forward_are_the_requests(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a device that is lost, or full, is everybody's."""
    shard = Shard(served)

    def fail(error: Exception) -> Any:
        def forward(**inputs: Any) -> None:
            raise error

        return forward

    for raised, expected in (
        (RuntimeError("sizes differ"), ValueError),
        (IndexError("out of range"), ValueError),
        (UnsupportedError("no later turn"), ValueError),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError),
        (RuntimeError("[gloo/pair.cc] Connection closed by peer"), RuntimeError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(served.model.generation, "head", fail(raised))
            with pytest.raises(expected):
                shard.prefill(0, ask(0, "Is the circle visible?"))
    shard.prefill(0, ask(0, "Is the circle visible?"))
    assert shard.batches


def test_what_the_package_logs_is_tgis(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "log", lambda level, message: lines.append((level, message)))
    log.route_log()
    log.route_log()
    Shard(served).prefill(0, ask(0, "<video>single.mp4</video>", "Is the circle visible?"))
    (line,) = lines
    assert line[0] == "info" and line[1].startswith("prefill: ") and "FLOPs 0." in line[1]
    logger = logging.getLogger("fastav_plugin")
    logger.setLevel(logging.WARNING)
    Shard(served).prefill(0, ask(0, "Is the circle visible?"))
    assert len(lines) == 1
