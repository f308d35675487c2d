"""What is refused of a model, whatever it is called with: compilation, copies, virtual tokens."""

from typing import Any

from torch import nn

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.torch_internals import (
    compiles_nothing,
    is_compiled,
    is_replica,
    without_compilation,
)

#: Wrappers that call the model inside them on slices of a batch.
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def refuse_prompt_learning(model: nn.Module) -> None:
    """Raise for PEFT's adapters that put virtual tokens before the prompt, or into its cache.

    Raises:
        UnsupportedError: with the kind of adapter.
    """
    adapter: Any = getattr(without_compilation(model), "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise UnsupportedError(
            f"PEFT's {adapter.peft_type.value} passes prompts as embeddings, or fills generate()'s "
            "cache before them, so nothing says where their media are. Use an adapter of weights, "
            "such as LoRA, or give FastAVCache a TokenMap of the prompt with its virtual tokens."
        )


def refuse_compiled(head: nn.Module) -> None:
    """Raise if any part of the model was compiled: dynamo would skip hooks added now.

    Raises:
        UnsupportedError: "attach, then compile".
    """
    for module in head.modules():
        if is_compiled(module):
            raise UnsupportedError(
                f"{type(module).__name__} was compiled before attach, so its hooks would be "
                "skipped. Attach, then compile: load the model anew, call "
                "fastav_plugin.attach(model, config), then torch.compile."
            )


def refuse_parallel(module: Any) -> None:
    """Raise for a data-parallel wrapper or replica: one cache cannot follow several models.

    Raises:
        UnsupportedError: with the way to the model inside.
    """
    # By name: torch's sharded package is imported by those who use it.
    sharded = type(module).__name__ == "FullyShardedDataParallel"
    if isinstance(module, PARALLEL) or sharded or is_replica(module):
        raise UnsupportedError(
            f"{type(module).__name__} takes part in data parallelism, whose copies of a model "
            "cannot share a FastAVCache. Use the model itself, attach(model.module, config) and "
            "model.module.generate(...), in one process for each device."
        )


def refuse_compiled_flex(attention: str, device: str) -> None:
    """Raise where the kernel that torch compiles of flex attention would read past a cut mask.

    Raises:
        UnsupportedError: on a CPU, unless torch.compile is off.
    """
    if attention == "flex_attention" and device == "cpu" and not compiles_nothing():
        raise UnsupportedError(
            "Compiled flex_attention on a CPU crashes on the masks of a cut. Use "
            "attn_implementation='sdpa', or torch.compiler.set_stance('force_eager')."
        )
