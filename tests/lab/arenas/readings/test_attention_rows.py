"""Rows of attention against the maps that eager attention hands over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.lab.arenas.readings.attention_rows import (
    AttentionRows,
    read_rows,
    reading_rows,
)
from fastav_plugin.model_overrides import find_override
from tests.support import small_models

LENGTH = 40
MEDIA = torch.arange(4, 30)


def parts_of(model: Any) -> Any:
    return find_override(model).parts(model)


def naive(model: Any, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Maps [H, T, T] and values [H, T, D] of every layer."""
    values: list[Tensor] = []
    projections = [module.v_proj for module in parts_of(model).attentions]
    handles = [
        each.register_forward_hook(lambda module, args, output: values.append(output[0]))
        for each in projections
    ]
    with torch.no_grad():
        maps = [each[0] for each in model(ids, output_attentions=True).attentions]
    for handle in handles:
        handle.remove()
    size, heads = model.config.hidden_size // 4, 4
    groups = [each.view(len(each), -1, size).transpose(0, 1) for each in values]
    return maps, [torch.stack([own[head // 2] for head in range(heads)]) for own in groups]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_all_layers_are_those_of_eager_attention(attention: str) -> None:
    ids = small_models.prompt(length=LENGTH)
    model = small_models.qwen2(attention=attention)
    with reading_rows(parts_of(model), MEDIA) as layers:
        # Decoded tokens are not read.
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3)
    maps, values = naive(small_models.qwen2(attention="eager"), ids)
    assert len(layers) == len(maps) == 4
    for rows, whole, own in zip(layers, maps, values, strict=True):
        media, last = whole[:, :, MEDIA], whole[:, -1, MEDIA]
        after = media[:, int(MEDIA[-1]) + 1 :]
        assert after.shape[1] == 10
        norms = own.norm(dim=-1)[:, MEDIA]
        expected = AttentionRows(
            last=last.mean(0),
            highest=last.max(0).values,
            valued=(last * norms).mean(0),
            question=after.reshape(-1, len(MEDIA)).mean(0),
            before=after[:, 0].mean(0),
        )
        for name, value in vars(expected).items():
            torch.testing.assert_close(getattr(rows, name), value, atol=2e-6, rtol=1e-4)
    assert not torch.allclose(layers[0].last, layers[1].last, atol=1e-3)


def test_the_model_is_left_as_it_was() -> None:
    ids = small_models.prompt(length=LENGTH)
    model = small_models.qwen2()
    modules = parts_of(model).attentions
    before, configs = model(ids).logits, [module.config for module in modules]
    with pytest.raises(RuntimeError, match="stop"), reading_rows(parts_of(model), MEDIA) as layers:
        # Reading changes nothing.
        assert torch.equal(model(ids).logits, before)
        assert all(
            module.config is not config for module, config in zip(modules, configs, strict=True)
        )
        raise RuntimeError("stop")
    assert all(module.config is config for module, config in zip(modules, configs, strict=True))
    assert len(layers) == 4
    assert torch.equal(model(ids).logits, before)
    assert len(layers) == 4


def test_shares_are_of_the_whole_prompt() -> None:
    """All heads' attention of a query to everything is 1, so media have at most that."""
    draw = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(1, heads, LENGTH, 8, generator=draw) for heads in (4, 2, 2))
    rows = read_rows(query, keys, values, MEDIA, scaling=8**-0.5)
    everything = read_rows(query, keys, values, torch.arange(LENGTH - 1), scaling=8**-0.5)
    assert 0 < float(rows.last.sum()) < 1
    torch.testing.assert_close(rows.last, everything.last[MEDIA])
    # The one row after them sees all but its own share.
    assert float(everything.last.sum()) < 1
    torch.testing.assert_close(everything.last, everything.question)


def test_a_softcap_is_refused() -> None:
    from fastav_plugin.lab.arenas.readings.attention_rows import _Reader

    none = torch.zeros(1, 1, 1, 1)
    with pytest.raises(UnsupportedError, match="softcap"):
        _Reader(MEDIA, 1, []).read(none, none, none, {"softcap": 30.0})
