"""Prompts that are refused: one clear error before any token, and the model works afterwards."""

from typing import Any

import pytest
import torch

from fastav_plugin import (
    FastAVCache,
    FastAVError,
    TokenMap,
    TokenMapError,
    UnsupportedError,
    attach,
    detach,
)
from tests.support.cache_names import passing
from tests.support.small_models import LENGTH, cache, config, generate, prompt, tokens
from tests.support.witness import Witness

IDS = prompt()


@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH + 1, 4 * LENGTH])
def test_a_token_map_of_another_length(witness: Witness, length: int) -> None:
    past = FastAVCache(config(), TokenMap.from_spans(length))
    with pytest.raises(TokenMapError, match=f"{length} positions.*{LENGTH}"):
        generate(witness.model, IDS, past)


def test_a_token_map_of_another_batch(witness: Witness) -> None:
    past = FastAVCache(config(), TokenMap.batch([tokens(), tokens()]))
    with pytest.raises(TokenMapError, match="batch size is 2.*1 prompts"):
        generate(witness.model, IDS, past)


@pytest.mark.parametrize("wanted", ["output_hidden_states", "output_attentions"])
def test_layers_outputs_of_drafted_forwards(witness: Witness, wanted: str) -> None:
    model = witness.model
    settings: dict[str, Any] = {"prompt_lookup_num_tokens": 3, wanted: True}
    with pytest.raises(UnsupportedError, match=wanted):
        generate(model, IDS, cache(), **settings)
    if wanted == "output_hidden_states":  # where nothing is cut, the slices are right
        out = generate(model, IDS, cache(min_media_tokens=100), **settings)
        assert torch.equal(out.sequences, witness.stock.sequences)
        witness.layers_run = 0


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
            **passing(FastAVCache(config(), maps)),
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
            **passing(FastAVCache(config(), TokenMap.batch([tokens(), tokens()]))),
            max_new_tokens=2,
        )
