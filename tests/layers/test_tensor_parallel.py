"""Which ranks share a model's heads, found when it is bound; refusals before any token."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers.distributed.configuration_utils import DistributedConfig

from fastav_plugin import FastAVCache, UnsupportedError, attach, detach
from fastav_plugin.binding.binding import Binding
from fastav_plugin.layers.tensor_parallel import ALONE, Ranks, find_ranks
from tests.support.cache_names import passing
from tests.support.small_models import cache, config, generate, prompt, qwen2, tokens


@pytest.fixture
def two_ranks() -> Iterator[None]:
    """One process that is told it is the first of two; torch's own stand-in for the other."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def spread(folder: Path, sizes: dict[str, Any], **changes: Any) -> Any:
    """A tiny Qwen2 of which this process holds its part."""
    model = qwen2(**changes)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder, distributed_config=DistributedConfig(**sizes))


def test_ranks_are_found_by_the_weights_or_by_the_mesh(two_ranks: None, tmp_path: Path) -> None:
    model = spread(tmp_path, {"tp_size": 2})
    assert Binding.make(model).model.ranks.size == 2
    detach(model)
    # A layer that is no part of the plan, as one with quantized weights, tells nothing.
    whole = [layer.self_attn for layer in qwen2().model.layers]
    assert find_ranks(model, whole, model.config).size == 2


@pytest.mark.parametrize("heads", [(4, 1), (3, 3)])
def test_heads_that_ranks_cannot_share_evenly(
    two_ranks: None, tmp_path: Path, heads: tuple[int, int]
) -> None:
    changes = {"num_attention_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": 8}
    model = spread(tmp_path, {"tp_size": 2}, **changes)
    with pytest.raises(UnsupportedError, match=r"\d query and \d key/value heads .* tp_size"):
        attach(model, config())
    assert Binding.of(model) is None
    with pytest.raises(UnsupportedError, match="tp_size"):
        model(input_ids=prompt(), **passing(cache()))


def test_pipeline_stages_are_refused(two_ranks: None, tmp_path: Path) -> None:
    model = spread(tmp_path, {"pp_size": 2})
    with pytest.raises(UnsupportedError, match="2 pipeline stages"):
        attach(model, config())


def test_data_parallel_weights_share_no_heads(two_ranks: None, tmp_path: Path) -> None:
    model = spread(tmp_path, {"fsdp_size": 2})
    attach(model, config())
    binding = Binding.of(model)
    assert binding is not None and binding.model.ranks.size == 1
    detach(model)


def test_a_process_group_without_tensor_parallelism(one_rank: None) -> None:
    """As under accelerate launch or a trainer's evaluation: nothing changes."""
    past = cache()
    out = generate(qwen2(), prompt(), past)
    assert past.fastav_request.model.ranks is ALONE
    assert torch.equal(out.sequences, generate(qwen2(), prompt(), cache()).sequences)


def test_a_group_of_one_changes_nothing(one_rank: None) -> None:
    group = Ranks(dist.group.WORLD)
    scores = torch.rand(2, 5)
    mean = group.mean(scores)
    assert mean is not None and mean is not scores
    assert torch.equal(mean, scores)
    assert group.mean(None) is None
    kept = torch.tensor([[True, False, True]])
    assert torch.equal(group.agree(kept), kept)
    assert group.agree(kept).dtype == torch.bool


def test_a_cache_of_a_spread_model_can_be_copied(two_ranks: None, tmp_path: Path) -> None:
    """`copy.deepcopy(cache)` is how a prefix is used again; a process group cannot be copied."""
    model = spread(tmp_path, {"tp_size": 2})
    past = FastAVCache(config(), tokens())
    with torch.inference_mode():
        model(input_ids=prompt(), **passing(past))
    twin = copy.deepcopy(past)
    assert torch.equal(
        twin.fastav_request.layers[0].positions, past.fastav_request.layers[0].positions
    )
    detach(model)


def test_a_model_split_without_a_trace(two_ranks: None) -> None:
    """As some serving libraries do it: plain weights that hold half of the heads."""
    model = qwen2()
    for layer in model.model.layers:
        attention = layer.self_attn
        for name in ("q_proj", "k_proj", "v_proj"):
            projection = getattr(attention, name)
            half = torch.nn.Linear(projection.in_features, projection.out_features // 2)
            setattr(attention, name, half)
        attention.o_proj = torch.nn.Linear(attention.o_proj.in_features // 2, 32)
    past = cache()
    with pytest.raises(UnsupportedError, match="2 heads in this process, not 4"):
        model(input_ids=prompt(), **passing(past))
    detach(model)
    past = cache(method="divprune")
    with torch.inference_mode():
        model(input_ids=prompt(), **passing(past))
    assert past.report().flops_ratio < 1
