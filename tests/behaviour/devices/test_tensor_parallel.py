"""Heads spread over two processes: the same cuts on every rank, the answer of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.behaviour.devices.case import Case, Seen, torchrun
from tests.support.cases import assert_close, config_of, prune, rows_of
from tests.support.family_configs import LAYERS

#: transformers 5.23 has no plan for these; the plan of Llama's layers fits them.
PLAN = {
    f"model.language_model.layers.*.{name}": kind
    for name, kind in {
        "self_attn.q_proj": "colwise",
        "self_attn.k_proj": "colwise",
        "self_attn.v_proj": "colwise",
        "self_attn.o_proj": "rowwise",
    }.items()
}


def check(case: Case, ranks: tuple[Any, ...]) -> None:
    """Ranks agree with each other, and with one process that has the whole model."""
    first, *others = ranks
    assert isinstance(first, Seen), first
    for other in others:
        assert isinstance(other, Seen), other
        assert torch.equal(other.tokens, first.tokens)
        assert len(other.positions) == LAYERS
        for mine, yours in zip(first.positions, other.positions, strict=True):
            assert torch.equal(mine, yours)
    assert first.ratio < 1
    if case.method == "dice":
        return
    rows = rows_of(case.family, case.shape)
    config = config_of(case.family, case.method)
    if "do_sample" in case.options:
        torch.manual_seed(0)
    alone = prune(case.family, case.attention, rows, config, **case.options)
    assert torch.equal(first.tokens, alone.run.tokens)
    assert_close(first.logits, alone.run.logits)
    for mine, layer in zip(first.positions, alone.cache.fastav_request.layers, strict=True):
        assert torch.equal(mine, layer.positions)
    assert first.ratio == alone.report.flops_ratio
    # Half of the 2 heads.
    assert first.heads == 1


def check_all(folder: Path, cases: list[Case]) -> None:
    found = torchrun(folder, cases)
    for case, *ranks in zip(cases, *found, strict=True):
        check(case, tuple(ranks))


def test_two_ranks_keep_what_one_process_keeps(tmp_path: Path) -> None:
    """Also with a hook that draws other random numbers on each rank."""
    check_all(
        tmp_path,
        [
            Case("llava", "fastav"),
            Case("llava", "fastav+divprune", how="attached"),
            Case("llava", "adaptive"),
            Case("llava", "dice"),
        ],
    )


MODES: list[dict[str, Any]] = [
    {"num_beams": 2},
    {"prompt_lookup_num_tokens": 2},
    # Every rank draws for itself, so all must be seeded alike, as without pruning.
    {"do_sample": True, "temperature": 2.0},
]


@pytest.mark.slow
def test_families_methods_and_modes(tmp_path: Path) -> None:
    names = ("llava", "llava_onevision", "qwen2_5_vl", "omni_all", "omni_interleaved")
    methods = ("fastav", "divprune", "fastav+divprune")
    cases = [
        Case(name, method, shape, how, attention)
        for name in names
        for method in methods
        for shape, how, attention in (
            ("ragged", "explicit", "sdpa"),
            ("single", "attached", "sdpa"),
            ("ragged", "attached", "eager"),
        )
    ]
    cases += [Case("qwen2_5_vl", "fastav+divprune", "single", options=mode) for mode in MODES]
    check_all(tmp_path, cases)


@pytest.mark.slow
def test_a_model_without_a_plan_takes_one(tmp_path: Path) -> None:
    cases = [
        Case("qwen3_vl", method, spread={"tp_size": 2, "tp_plan": PLAN})
        for method in ("fastav", "fastav+divprune")
    ]
    check_all(tmp_path, cases)


@pytest.mark.slow
def test_data_parallel_ranks_choose_for_themselves(tmp_path: Path) -> None:
    """FSDP spreads weights, not heads: every rank has prompts and random numbers of its own."""
    name, spread = "llama_text", {"fsdp_size": 2}
    cases = [Case(name, "fastav", spread=spread), Case(name, "dice", spread=spread)]
    (first, mine), (second, yours) = torchrun(tmp_path, cases)
    alone = prune(
        "llama_text", "sdpa", rows_of("llama_text", "ragged"), config_of("llama_text", "fastav")
    )
    for seen in (first, second):
        assert isinstance(seen, Seen), seen
        assert torch.equal(seen.tokens, alone.run.tokens)
        assert seen.heads == 2
    assert isinstance(mine, Seen) and isinstance(yours, Seen)
    assert not all(torch.equal(a, b) for a, b in zip(mine.positions, yours.positions, strict=True))
