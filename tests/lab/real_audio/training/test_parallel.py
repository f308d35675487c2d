"""Two processes end up with the mean of their gradients; one process is left alone."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from fastav_plugin.lab.real_audio.training import parallel
from tests.support.programs import ROOT, with_checkout

PROCESS = """
from pathlib import Path

import torch
from torch import nn
from fastav_plugin.lab.real_audio.training import parallel

parallel.join_processes()
rank = parallel.rank()
both, one = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))
both.grad = torch.tensor([1.0, 3.0]) * (rank + 1)
if rank:
    one.grad = torch.tensor([[8.0]])
parallel.average_gradients([both, one])
parallel.wait_for_all()
found = both.grad.tolist(), one.grad.tolist(), parallel.average((rank, 5))
Path(__file__).with_name(f"{rank}.txt").write_text(str(found))
"""


def test_two_processes_average(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": with_checkout(), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert found == ["([1.5, 4.5], [[4.0]], [0.5, 5.0])"] * 2


def test_one_process_changes_nothing() -> None:
    parallel.join_processes()
    parameter = nn.Parameter(torch.zeros(2))
    parallel.average_gradients([parameter])
    assert parameter.grad is None
    assert parallel.average((0.25, 1)) == [0.25, 1]
    assert parallel.rank() == 0
