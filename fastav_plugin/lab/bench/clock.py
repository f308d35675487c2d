"""What `fastav bench` reads its numbers from: clocks, the process's memory, the machine."""

import ctypes
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers

from fastav_plugin import __version__
from fastav_plugin.analysis.measured_run import now

#: Parts of the pruner, as a `PruningListener` is called with them.
PARTS = ("selection", "scoring", "gathering")


class PrunerClock:
    """A PruningListener that adds up the seconds of each part, each without the others inside it.

    Attributes:
        spent: seconds by part.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._running: list[str] = []  # innermost last
        self._since = 0.0

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Count the block for one part, and not for the part around it."""
        self._count()
        self._running.append(part)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def _count(self) -> None:
        """Count the time since the last call for the innermost part."""
        at = now(self._device)
        if self._running:
            self.spent[self._running[-1]] += at - self._since
        self._since = at


def peak_memory(device: torch.device | str = "cpu") -> int | None:
    """Most bytes held since `forget_peak_memory`: of the GPU, or of this process.

    None if the platform does not report it.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024 if "VmHWM" in lines else None


def forget_peak_memory(device: torch.device | str = "cpu") -> None:
    """Reset the peak, if the platform allows it.

    Freed memory is returned to the system first, so that a later run does not reuse it.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def spread(values: Sequence[float]) -> float:
    """Interquartile range; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Hardware and versions that a measurement belongs to, as plain JSON data."""
    cuda = torch.device(device).type == "cuda"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "system": platform.system(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "fastav_plugin": __version__,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout this package is used from; None outside a checkout."""
    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
