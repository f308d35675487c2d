"""Bad input: one clear error before any token, and the model works afterwards."""

from pathlib import Path

import pytest
import torch

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    FastAVError,
    StateError,
    TokenMapError,
    UnsupportedError,
    attach,
)
from fastav_plugin.config import CONFIG_NAME
from tests.support.cache_names import passing
from tests.support.small_models import cache, config, generate, prompt, qwen2, same
from tests.support.witness import Witness

IDS = prompt()


def test_a_ratio_beyond_one(witness: Witness) -> None:
    with pytest.raises(ConfigError, match=r"fine_drop_ratio.*\[0, 1\).*1\.2"):
        FastAVConfig.for_model(witness.model, fine_drop_ratio=1.2)


def test_an_unknown_method(witness: Witness) -> None:
    for use in (
        lambda: FastAVConfig.for_model(witness.model, method="fastva"),
        lambda: FastAVCache(FastAVConfig(method="fastva")),
        lambda: attach(witness.model, FastAVConfig(method="fastva")),
    ):
        with pytest.raises(ConfigError, match="'fastva'.*divprune.*fastav"):
            use()


def test_an_unknown_setting(witness: Witness) -> None:
    with pytest.raises(ConfigError, match="fine_drop_ratio"):
        FastAVConfig.for_model(witness.model, fine_drop_rate=0.5)  # type: ignore[call-arg]


def test_a_global_layer_the_model_does_not_have(witness: Witness) -> None:
    for layer in (4, 28):
        with pytest.raises(ConfigError, match=rf"global_layer.*{layer}"):
            generate(witness.model, IDS, cache(global_layer=layer))
        with pytest.raises(ConfigError, match=rf"global_layer.*{layer}"):
            FastAVConfig.for_model(witness.model, global_layer=layer)


def test_no_cache_at_all(witness: Witness) -> None:
    with pytest.raises(FastAVError, match="use_cache"):
        generate(witness.model, IDS, cache(), use_cache=False)
    with pytest.raises(FastAVError, match="use_cache"):
        witness.model(input_ids=IDS, **passing(cache()), use_cache=False)


@pytest.mark.parametrize("bound", [False, True])
def test_a_used_cache_given_to_another_model(witness: Witness, bound: bool) -> None:
    if bound:
        attach(witness.model, config())
    past = cache()
    expected = generate(qwen2(seed=4), IDS, cache())
    owner = qwen2(seed=4)
    assert same(generate(owner, IDS, past), expected)
    held = past.get_seq_length()
    with pytest.raises(StateError, match="another"):
        generate(witness.model, torch.cat([IDS, IDS], dim=1), past)
    assert past.get_seq_length() == held
    longer = torch.cat([expected.sequences, prompt(7, length=4)], dim=1)
    generate(owner, longer, past)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\x00\xff", b'{"fine_drop_ratio": 1.2}'])
def test_a_corrupt_config_file(witness: Witness, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(content)
    with pytest.raises(ConfigError):
        attach(witness.model, FastAVConfig.from_pretrained(tmp_path))


def test_labels(witness: Witness) -> None:
    with pytest.raises(UnsupportedError, match="labels"):
        witness.model(input_ids=IDS, labels=IDS, **passing(cache()))


def test_training(witness: Witness) -> None:
    witness.model.train()
    with pytest.raises(UnsupportedError, match=r"eval\(\)"):
        witness.model(input_ids=IDS, **passing(cache()))
    witness.model.eval()


def test_logits_to_keep_as_an_index(witness: Witness) -> None:
    with pytest.raises(UnsupportedError, match="logits_to_keep"):
        witness.model(input_ids=IDS, **passing(cache()), logits_to_keep=torch.tensor([3, 29]))


def test_frames_that_are_unknown(witness: Witness) -> None:
    with pytest.raises(TokenMapError, match="first 2 frames"):
        generate(witness.model, IDS, cache(global_rule="first 2 frames"))
    witness.layers_run = 0


def test_a_calibration_file_that_is_not_there(witness: Witness, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.safetensors")
    with pytest.raises(FastAVError, match="none.safetensors"):
        attach(witness.model, FastAVConfig(calibration=missing))
    with pytest.raises(FastAVError, match="none.safetensors"):
        generate(witness.model, IDS, cache(calibration=missing))


@pytest.mark.parametrize("implementation", ["static", "dynamic", "offloaded"])
def test_a_cache_and_a_cache_implementation(witness: Witness, implementation: str) -> None:
    """transformers' own refusal."""
    with pytest.raises(ValueError, match="cache_implementation"):
        generate(witness.model, IDS, cache(), cache_implementation=implementation)
