"""The steps of max-min diversity as one kernel: on a GPU a launch costs more than a step.

Importing it needs triton, which torch brings along on Linux with CUDA.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Threads of a program hold about this many distances each in registers.
_PER_THREAD = 16
_WARP = 32


# One kernel for every number of steps, or each new ratio would wait for a compiler.
@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def _steps(  # type: ignore[no-untyped-def]  # pragma: no cover
    distances,
    nearest,
    first,
    picks,
    heights,
    total,
    steps,
    BLOCK: tl.constexpr,
    FIRST: tl.constexpr,
):
    """One program walks one group: its distances to the picks never leave the registers."""
    group = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < total
    far = tl.load(nearest + group * total + columns, mask=inside, other=float("-inf"))
    for step in range(steps):
        # Ties go to the lowest index.
        pick = tl.argmax(far, axis=0)
        if FIRST:
            if step == 0:
                pick = tl.load(first + group).to(tl.int32)
        itself = columns == pick
        height = tl.max(tl.where(itself, far, float("-inf")), axis=0)
        tl.store(picks + group * steps + step, pick.to(tl.int64))
        tl.store(heights + group * steps + step, height)
        row = distances + (group * total + pick) * total
        reach = tl.load(row + columns, mask=inside, other=float("inf"))
        # As fmin does, this leaves a NaN out.
        far = tl.where(itself, float("-inf"), tl.minimum(far, reach))


def _options(block: int) -> dict[str, Any]:
    """How the kernel is compiled for rows of `block` distances."""
    warps = min(32, max(4, block // (_WARP * _PER_THREAD)))
    return {"num_warps": warps, "enable_fp_fusion": False}


def walk_in_one_kernel(
    distances: Tensor, nearest: Tensor, steps: int, first: Tensor | None
) -> tuple[Tensor, Tensor]:  # pragma: no cover
    """`diversity._walk` on a GPU: arguments and results as there; `nearest` is left alone."""
    number, total = nearest.shape
    picks = torch.empty((number, steps), dtype=torch.int64, device=nearest.device)
    heights = nearest.new_empty((number, steps))
    block = triton.next_power_of_2(total)
    # Triton launches on the current device, whatever its arguments lie on.
    with torch.cuda.device(nearest.device) if nearest.is_cuda else nullcontext():
        _steps[(number,)](
            distances,
            nearest,
            picks if first is None else first,
            picks,
            heights,
            total,
            steps,
            BLOCK=block,
            FIRST=first is not None,
            **_options(block),
        )
    return picks, heights
