"""Bad input: one clear error before any token, and the model works afterwards."""

import logging
from pathlib import Path

import pytest
import torch

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    FastAVError,
    StateError,
    TokenMap,
    TokenMapError,
    UnsupportedError,
    attach,
    detach,
)
from fastav_plugin.config import CONFIG_NAME
from tests.life_cycle.models import (
    LENGTH,
    cache,
    config,
    generate,
    prompt,
    qwen2,
    same,
    tokens,
)
from tests.life_cycle.witness import Witness

IDS = prompt()


@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH + 1, 4 * LENGTH])
def test_a_token_map_of_another_length(witness: Witness, length: int) -> None:
    past = FastAVCache(config(), TokenMap.from_spans(length))
    with pytest.raises(TokenMapError, match=f"{length} positions.*{LENGTH}"):
        generate(witness.model, IDS, past)


def test_a_token_map_of_another_batch(witness: Witness) -> None:
    past = FastAVCache(config(), TokenMap.batch([tokens(), tokens()]))
    with pytest.raises(TokenMapError, match="2 rows.*1"):
        generate(witness.model, IDS, past)


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
        FastAVConfig.for_model(witness.model, fine_drop_rate=0.5)


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
        witness.model(input_ids=IDS, past_key_values=cache(), use_cache=False)


def test_no_cache_on_an_attached_model_is_not_dense_in_silence(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    attach(witness.model, config())
    try:
        with caplog.at_level(logging.INFO, logger="fastav_plugin"):
            out = generate(witness.model, IDS, use_cache=False)
    except FastAVError as error:
        assert "use_cache" in str(error)
    else:
        assert torch.equal(out.sequences, witness.stock.sequences)
        assert any("unpruned" in record.message for record in caplog.records)
        witness.layers_run = 0
    detach(witness.model)


@pytest.mark.parametrize("size", [8, 29, 30, 64])
def test_chunked_prefill(witness: Witness, size: int) -> None:
    """29 leaves a last chunk of one row, which looks like a decoded token."""
    with pytest.raises(UnsupportedError, match=f"prefill_chunk_size={size}"):
        generate(witness.model, IDS, cache(), prefill_chunk_size=size)


@pytest.mark.parametrize("size", [8, 29])
def test_chunked_prefill_on_an_attached_model(witness: Witness, size: int) -> None:
    attach(witness.model, config())
    with pytest.raises(UnsupportedError, match="prefill_chunk_size"):
        generate(witness.model, IDS, prefill_chunk_size=size)
    detach(witness.model)


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
        witness.model(input_ids=IDS, labels=IDS, past_key_values=cache())


def test_training(witness: Witness) -> None:
    witness.model.train()
    with pytest.raises(UnsupportedError, match=r"eval\(\)"):
        witness.model(input_ids=IDS, past_key_values=cache())
    witness.model.eval()


def test_logits_to_keep_as_an_index(witness: Witness) -> None:
    with pytest.raises(UnsupportedError, match="logits_to_keep"):
        witness.model(input_ids=IDS, past_key_values=cache(), logits_to_keep=torch.tensor([3, 29]))


@pytest.mark.parametrize("given", ["mask", "map"])
def test_right_padding(witness: Witness, given: str) -> None:
    ids = prompt(batch=2)
    mask = torch.ones_like(ids)
    mask[1, -5:] = 0
    maps = TokenMap.batch([tokens(), TokenMap.from_spans(LENGTH - 5, video=[(3, 17)])], "right")
    if given == "mask":
        maps = TokenMap.batch([tokens(), tokens()])
    with pytest.raises(FastAVError, match="padd"):
        witness.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=FastAVCache(config(), maps),
            max_new_tokens=2,
        )


def test_a_token_map_whose_padding_is_not_the_masks(witness: Witness) -> None:
    """Left padding that the map calls text (or media) would be attended to."""
    ids = prompt(batch=2)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    with pytest.raises(TokenMapError, match="padd"):
        witness.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=FastAVCache(config(), TokenMap.batch([tokens(), tokens()])),
            max_new_tokens=2,
        )


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
