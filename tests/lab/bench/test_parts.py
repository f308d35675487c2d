"""The pruner's arithmetic beside plain versions: same results, and bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastav_plugin.functional import scores as scoring
from fastav_plugin.functional.rollout import BLOCK, rollout_row
from fastav_plugin.functional.scores import query_scores
from fastav_plugin.lab.bench import parts as bench_parts
from fastav_plugin.lab.bench.parts import (
    explicit_rollout,
    spread_of,
    upcast_scores,
)
from fastav_plugin.lab.bench.peers import published_selection
from tests.hooks.test_divprune import GOLDEN, check_rule

needs_procfs = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="reads Linux's high-water mark"
)

SMALL = ("--rows", "120", "--width", "16", "--keep", "12", "--window", "50", "--tokens", "90")


def measured(*arguments: str) -> dict[str, Any]:
    """A run in a process of its own, every tensor in pages that go back at once."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-W", "ignore", "-m", "fastav_plugin.lab.bench.parts", "--json"]
    done = subprocess.run(
        [*command, "--threads", "1", "--repeats", "1", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return {entry["version"]: entry for entry in found["versions"]}


def test_the_plain_versions_are_right() -> None:
    for name in ("gauss_576x256", "smooth_576x192"):
        golden = GOLDEN[f"{name}/keep@0.05"]
        features = GOLDEN[f"{name}/features"].float()
        check_rule(features, published_selection(features, len(golden)), golden)
    draw = torch.Generator().manual_seed(0)
    queries = [torch.randn(6, 70, 8, generator=draw) for _ in range(3)]
    keys = [torch.randn(2, 70, 8, generator=draw) for _ in range(3)]
    row = torch.rand(70, generator=draw)
    torch.testing.assert_close(
        rollout_row(row, queries, keys), explicit_rollout(row, queries, keys), rtol=0, atol=1e-5
    )
    for dtype in (torch.float32, torch.bfloat16):
        query = torch.randn(2, 6, 8, generator=draw).to(dtype)
        held = torch.randn(2, 2, 50, 8, generator=draw).to(dtype)
        torch.testing.assert_close(
            query_scores(query, held, scaling=8**-0.5),
            upcast_scores(query, held),
            rtol=1e-5,
            atol=1e-7,
        )


def test_spread() -> None:
    axes = torch.eye(3)
    assert spread_of(axes, torch.arange(3)) == {"least_distance": 1, "mean_distance": 1}
    assert spread_of(axes, torch.arange(1)) == {}


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    small = [*SMALL, "--repeats", "2", "--layers", "2"]
    bench_parts.main([*small, "--threads", str(torch.get_num_threads())])
    lines = capsys.readouterr().out.splitlines()
    rows = {"selection": 3, "selectors": 7, "rollout": 2, "scoring": 2}
    assert [line.split()[0] for line in lines] == [part for part in rows for _ in range(rows[part])]
    bench_parts.main([*small, "--json", "selection"])
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["machine"]["torch"]) == (120, torch.__version__)
    published, joint, windowed = found["versions"]
    assert published["times_faster"] == published["times_less_cpu"] == 1
    assert joint["least_distance"] == pytest.approx(published["least_distance"], abs=1e-6)
    assert windowed["least_distance"] <= joint["least_distance"]
    wrong_sizes = [
        "--rows 0",
        "--tokens 11",
        "--rows 10 --keep 50",
        "--repeats 0",
        "--dtype int3",
        "--heads 3",
    ]
    for wrong in ["magic", "--rows many", *wrong_sizes]:
        with pytest.raises(SystemExit):
            bench_parts.main([*small, *wrong.split()])
        capsys.readouterr()


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the most bytes that one operation of a block made anew."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(one) for one in args}
        if isinstance(result, torch.Tensor) and not func.is_view and id(result) not in given:
            self.bytes = max(self.bytes, result.numel() * result.element_size())
        return result


def test_no_operation_makes_a_matrix_of_attention_or_a_copy_of_all_keys() -> None:
    draw = torch.Generator().manual_seed(0)
    queries = [torch.randn(28, 640, 16, generator=draw).bfloat16()]
    keys = [torch.randn(4, 640, 16, generator=draw).bfloat16()]
    with Largest() as made:
        rollout_row(torch.ones(640), queries, keys)
    assert made.bytes == 7 * BLOCK * 640 * 4
    with Largest() as made:
        explicit_rollout(torch.ones(640), queries, keys)
    assert made.bytes == 28 * 640 * 640 * 4

    query = torch.randn(2, 28, 128, generator=draw).bfloat16()
    held = torch.randn(2, 4, 9000, 128, generator=draw).bfloat16()
    with Largest() as made:
        query_scores(query, held, scaling=1)
    assert made.bytes <= max(4 * scoring.BLOCK, 4 * 2 * 28 * 9000)
    with Largest() as made:
        upcast_scores(query, held)
    assert made.bytes >= held.numel() * 4


@needs_procfs
@pytest.mark.slow
def test_neither_rollout_nor_scoring_holds_what_its_formula_would() -> None:
    layers, heads, tokens = 7, 28, 1111
    found = measured(
        *("rollout", "scoring", "--layers", f"{layers}", "--tokens", f"{tokens}"),
        *("--heads", f"{heads}", "--groups", f"{heads}"),
    )
    attention = heads * tokens**2 * 4
    assert found["row by row"]["peak_bytes"] < layers * attention / 20
    assert found["explicit"]["peak_bytes"] > attention
    copy = heads * tokens * 128 * 4
    assert found["by blocks"]["peak_bytes"] < copy / 2
    # Some pages of earlier calls are used again.
    assert found["upcast"]["peak_bytes"] > 0.9 * copy
