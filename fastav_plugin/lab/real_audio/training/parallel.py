"""Several processes train one model: each on batches of its own, with gradients averaged.

On cores that are shared with other programs, processes of one thread lose less time waiting than
one process with as many threads, which waits in every operation for its slowest thread. Without
torch's launcher there is one process, and nothing here does anything.
"""

import atexit
import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn


def join_processes() -> None:
    """Meet the other processes, if torch's launcher started this one."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
        # Threads of the group that outlive it may abort a process that has done its work.
        atexit.register(dist.destroy_process_group)


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def average(values: Sequence[float]) -> list[float]:
    """Mean of each number over the processes."""
    if not dist.is_initialized():
        return list(values)
    found = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(found)
    return [float(value) for value in found / dist.get_world_size()]


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes; one that is missing counts as zero."""
    if not dist.is_initialized():
        return
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    joined = torch.cat([each.flatten() for each in gradients])
    dist.all_reduce(joined)
    joined /= dist.get_world_size()
    parts = torch.split(joined, [each.numel() for each in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
