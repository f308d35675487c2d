"""The low-rank update is the same beside the weights, merged, and read back from its file."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fastav_plugin.lab.real_audio.connector import Connector
from fastav_plugin.lab.real_audio.low_rank import add_low_rank, merge_low_rank
from fastav_plugin.lab.real_audio.weights_file import read_weights, write_weights

IDS = torch.tensor([[1, 2, 3, 4]])


def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=10,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    model.train(False)
    return model


@torch.no_grad()
def test_merged_is_beside() -> None:
    plain = small()
    before = plain(IDS).logits
    updated = small()
    factors = add_low_rank(updated)
    torch.testing.assert_close(updated(IDS).logits, before)
    for factor in factors.values():
        factor.normal_()
    after = updated(IDS).logits
    assert (after - before).abs().max() > 0.01
    merge_low_rank(plain, {name: value.detach() for name, value in factors.items()})
    torch.testing.assert_close(plain(IDS).logits, after, rtol=1e-4, atol=1e-5)


def test_only_the_update_is_trained() -> None:
    model = small()
    factors = add_low_rank(model)
    assert set(factors) == {
        f"{layer}.{name}.{part}"
        for layer in range(2)
        for name in ("q_proj", "v_proj")
        for part in ("down", "up")
    }
    model(IDS).logits.sum().backward()
    trained = {name for name, each in model.named_parameters() if each.grad is not None}
    assert len(trained) == len(factors)
    assert all(name.endswith((".down", ".up")) for name in trained)


def test_the_file_holds_both_parts(tmp_path: Path) -> None:
    connector = Connector()
    factors = add_low_rank(small())
    path = tmp_path / "weights" / "model.safetensors"
    write_weights(path, connector.state_dict(), factors)
    assert path.stat().st_size < 8e6
    read, update = read_weights(path)
    assert set(read) == set(connector.state_dict())
    assert set(update) == set(factors)
    for name, value in factors.items():
        torch.testing.assert_close(update[name], value.detach(), rtol=1e-3, atol=1e-4)
