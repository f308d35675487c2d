"""What is refused of a model: compilation, copies, virtual tokens; a generate() left unpruned."""

from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.releases import installed, tested
from fastav_plugin.upstream.torch_internals import (
    compiles_nothing,
    is_compiled,
    is_replica,
    without_compilation,
)

#: Wrappers that call the model inside them on slices of a batch.
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def refuse_prompt_learning(model: nn.Module) -> None:
    """Refuse PEFT's adapters that put virtual tokens before the prompt, or into its cache."""
    adapter: Any = getattr(without_compilation(model), "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise UnsupportedError(
            f"PEFT's {adapter.peft_type.value} passes prompts as embeddings, or fills generate()'s "
            "cache before them, so nothing says where their media are. Use an adapter of weights, "
            "such as LoRA, or give FastAVCache a TokenMap of the prompt with its virtual tokens."
        )


def refuse_compiled(head: nn.Module) -> None:
    """Refuse a model of which a part was compiled: dynamo would skip hooks added now."""
    for module in head.modules():
        if is_compiled(module):
            raise UnsupportedError(
                f"{type(module).__name__} was compiled before attach, so its hooks would be "
                "skipped. Attach, then compile: load the model anew, call "
                "fastav_plugin.attach(model, config), then torch.compile."
            )


def refuse_parallel(module: Any) -> None:
    """Refuse a data-parallel wrapper or replica: one cache cannot follow several models."""
    # By name: torch's sharded package is imported by those who use it.
    sharded = type(module).__name__ == "FullyShardedDataParallel"
    if isinstance(module, PARALLEL) or sharded or is_replica(module):
        raise UnsupportedError(
            f"{type(module).__name__} takes part in data parallelism, whose copies of a model "
            "cannot share a FastAVCache. Use the model itself, attach(model.module, config) and "
            "model.module.generate(...), in one process for each device."
        )


def refuse_compiled_flex(attention: str, device: str) -> None:
    """Refuse flex attention that torch compiles on a CPU: its kernel reads past a cut mask."""
    if attention == "flex_attention" and device == "cpu" and not compiles_nothing():
        raise UnsupportedError(
            "Compiled flex_attention on a CPU crashes on the masks of a cut. Use "
            "attn_implementation='sdpa', or torch.compiler.set_stance('force_eager')."
        )


def refuse_settings(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse settings of generate() that leave an attached model nothing to prune."""
    given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    configs = [given, getattr(head, "generation_config", None)]
    known = (config.use_cache for config in configs if config is not None)
    # A None among the keywords is taken at its word, not for "the default".
    use_cache = kwargs.get("use_cache", next((value for value in known if value is not None), True))
    if not use_cache:
        raise UnsupportedError(
            f"use_cache={use_cache} leaves an attached model nothing to prune. Leave it out, or "
            "detach(model)."
        )
    if kwargs.get("cache_implementation") == "paged":
        raise UnsupportedError(
            "cache_implementation='paged' is continuous batching, whose cache is shared by all "
            "requests and cannot be pruned. Leave `cache_implementation` unset, or detach(model)."
        )


def refuse_unseen(
    head: nn.Module, seen: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuse a generate() that ended without having shown (`seen`) a cache to replace.

    With a cache or a loop of the caller's among its arguments there is none to show.
    """
    own = any(isinstance(value, Cache) for value in (*args, *kwargs.values()))
    if seen or own or kwargs.get("custom_generate") is not None:
        return
    raise UnsupportedError(
        f"The generate() of {type(head).__name__} ended without a cache that could be replaced, "
        f"so nothing was pruned. transformers {installed()} is installed, tested are {tested()}. "
        "Pass a FastAVCache, or detach(model)."
    )
