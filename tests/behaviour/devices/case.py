"""What the ranks of a tensor-parallel run are asked, and what each of them saw."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.families import build
from tests.support.programs import with_checkout

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Case:
    """One generate() on every rank.

    Attributes:
        family: name in tests.support.families.
        method: name of a method, or "dice".
        shape: of the batch.
        how: "explicit" for a FastAVCache, "attached" for attach().
        attention: implementation.
        options: further keywords of generate().
        spread: of transformers' DistributedConfig.
        load: further keywords of from_pretrained().
    """

    family: str
    method: str
    shape: str = "ragged"
    how: str = "explicit"
    attention: str = "sdpa"
    options: dict[str, Any] = field(default_factory=dict)
    spread: dict[str, Any] = field(default_factory=lambda: {"tp_plan": "auto"})
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What one rank saw of one case.

    Attributes:
        tokens: int64 [B, steps].
        logits: float32 [steps, B, vocabulary].
        positions: per layer int64 [B, kv].
        ratio: FLOPs as the report counts them.
        heads: key/value heads this rank holds.
    """

    tokens: Tensor
    logits: Tensor
    positions: list[Tensor]
    ratio: float
    heads: int


def torchrun(folder: Path, cases: list[Case], ranks: int = 2) -> list[list[Seen | str]]:
    """Run cases under torchrun; for each rank what it saw, or the error that refused the case."""
    for name in {case.family for case in cases}:
        build(name).save_pretrained(folder / name)
    (folder / "cases.json").write_text(json.dumps([dataclasses.asdict(case) for case in cases]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(ranks), "-m", "tests.behaviour.devices.worker", str(folder)]
    environment = {**os.environ, "PYTHONPATH": with_checkout(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]
