"""The kernel for GPUs: run in triton's interpreter, and compiled for a GPU that is not here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from fastav_plugin.functional.diversity import _kernel, max_min_diversity
from tests.support.programs import with_checkout

pytest.importorskip("triton")

COMPARE = """
import torch
from fastav_plugin.functional.diversity import _walk
from fastav_plugin.functional.diversity_triton import walk_in_one_kernel

def check(number, total, steps, first, near=None, copies=1):
    draw = torch.Generator().manual_seed(total)
    rows = torch.randn(number, total // copies, 8, generator=draw).repeat(1, copies, 1)
    distances = torch.cdist(rows, rows).contiguous()
    total = rows.shape[1]
    if near is None:
        near = torch.full((number, total), float("inf"))
        near[-1, total // 2 :] = float("-inf")
    if first:
        first = torch.tensor([3] * number)
        distances[0, 5, 7] = float("nan")
    before = near.clone()
    expected = _walk(distances, near, steps, first if first is not False else None)
    found = walk_in_one_kernel(distances, near, steps, first if first is not False else None)
    assert torch.equal(near, before)
    valid = (near > float("-inf")).sum(dim=1)
    for group in range(number):
        real = min(steps, int(valid[group]))
        for mine, theirs in zip(found, expected):
            assert torch.equal(mine[group, :real], theirs[group, :real]), (total, group)
    assert [value.dtype for value in found] == [torch.int64, torch.float32]

check(1, 33, 33, True)
check(3, 20, 9, True)
check(2, 40, 20, True, copies=4)
check(2, 17, 5, False, near=torch.rand(2, 17))
check(1, 700, 40, False, near=torch.rand(1, 700))
"""


def test_it_picks_as_the_steps_do() -> None:
    """In the interpreter, which must be asked for before triton is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARE],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": with_checkout()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_where_triton_cannot_make_it_the_steps_run_one_by_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here there is no GPU to launch on."""
    with caplog.at_level(logging.WARNING):
        assert _kernel(torch.device("cpu")) is None
    assert "run one by one on cpu" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_picks_as_the_cpu_does() -> None:
    """The whole selection, on candidates whose order no rounding decides."""
    features = torch.randn(3000, 512, generator=torch.Generator().manual_seed(0))
    expected = max_min_diversity(features, 300)
    assert _kernel(torch.device("cuda", torch.cuda.current_device())) is not None
    assert torch.equal(max_min_diversity(features.cuda(), 300).cpu(), expected)


@pytest.mark.parametrize(("block", "first"), [(512, True), (16384, False)])
def test_it_compiles_for_a_gpu(block: int, first: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastav_plugin.functional import diversity_triton as diversity_kernel

    arguments: dict[str, Any] = {"distances": "*fp32", "nearest": "*fp32", "first": "*i64"}
    arguments |= {"picks": "*i64", "heights": "*fp32", "total": "i32", "steps": "i32"}
    source = ASTSource(
        fn=diversity_kernel._steps,
        signature={**arguments, "BLOCK": "constexpr", "FIRST": "constexpr"},
        constexprs={"BLOCK": block, "FIRST": first},
    )
    options = diversity_kernel._options(block)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert len(made.asm["cubin"]) > 1000
