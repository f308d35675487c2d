"""One rank's model for a shard: which class, device and precision, whole or split over ranks."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from fastav_plugin.analysis.inspection import model_class
from fastav_plugin.attach import attach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hub.files import local_folder
from fastav_plugin.layers.tensor_parallel import ALONE, Ranks
from fastav_plugin.model_overrides import find_override
from fastav_plugin.model_overrides.own_models.registry import (
    own_model,
    read_own_config,
    register_models,
)
from fastav_plugin.model_overrides.tgi.launch_settings import LaunchSettings
from fastav_plugin.model_overrides.tgi.layouts import find_layout
from fastav_plugin.model_overrides.tgi.prompts import PromptReader
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.upstream.models import tensor_parallel

logger = logging.getLogger(__name__)

#: How several shards share a model: "tensor" splits its weights, "replicate" copies it.
SHARDING = "FASTAV_TGI_SHARDING"
_SHARDINGS = ("tensor", "replicate")
_REPLICATE = f"Set {SHARDING}=replicate to give each shard a copy, or start one shard."


@dataclass(frozen=True)
class Rank:
    """This process among the shards of one server.

    Attributes:
        rank: 0..world_size - 1.
        world_size: shards.
        split: whether they share one model's weights, instead of each having a copy.
    """

    rank: int = 0
    world_size: int = 1
    split: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Rank:
        """Read RANK and WORLD_SIZE, which the launcher sets, and FASTAV_TGI_SHARDING.

        Raises:
            ConfigError: an unknown way to share.
        """
        found = os.environ if environment is None else environment
        how = found.get(SHARDING) or "tensor"
        if how not in _SHARDINGS:
            raise ConfigError(f"`{SHARDING}` must be one of {', '.join(_SHARDINGS)}, got '{how}'.")
        size = int(found.get("WORLD_SIZE") or 1)
        return cls(int(found.get("RANK") or 0), size, size > 1 and how == "tensor")


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        model_id: a folder, or a name on the Hub.
        revision: of the Hub.
        dtype: None for the default of the device.
        trust_remote_code: whether code of the checkpoint may run.
    """

    model_id: str
    revision: str | None = None
    dtype: torch.dtype | None = None
    trust_remote_code: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of every from_pretrained()."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class LoadedModel:
    """A model that was attached, and what reads its prompts.

    Attributes:
        model_id: as it was asked for.
        head: the module that generate() calls.
        config: what is pruned.
        tokenizer: padding on the left.
        reader: reads requests.
        device: of this rank.
        dtype: of the weights.
        rank: of this process.
        world_size: shards.
        ranks: the shards for which a request is read once.
    """

    model_id: str
    head: nn.Module
    config: FastAVConfig
    tokenizer: Any
    reader: PromptReader
    device: torch.device
    dtype: torch.dtype
    rank: int
    world_size: int
    ranks: Ranks


def load_model(source: Source, settings: LaunchSettings, ranks: Rank) -> LoadedModel:
    """Load and attach one rank's model.

    Args:
        source: where it comes from.
        settings: how it is pruned.
        ranks: this process among the shards.

    Raises:
        UnsupportedError: the model cannot be pruned, or not be split.
        ConfigError: its folder or a setting cannot be used.
    """
    config = _read_config(source)
    device = torch.device(f"cuda:{ranks.rank}" if torch.cuda.is_available() else "cpu")
    dtype = source.dtype or _default_dtype(config, device)
    model = _load(source, config, device, dtype, ranks)
    head = unwrap(model).eval()
    processor, tokenizer = _load_processor(source, config)
    _name_ends(tokenizer, getattr(head, "generation_config", None), head.config)
    pruning = settings.config(model)
    try:
        attach(head, pruning)
    except UnsupportedError as error:
        if ranks.split:
            raise UnsupportedError(f"{error} {_REPLICATE}") from error
        raise
    layout = find_layout(processor, tokenizer, head.config)
    override = find_override(head)
    policy = MediaPolicy.from_environment()
    reader = PromptReader(layout, tokenizer, head.config, override, policy)
    logger.info(
        "attached %s: %s Settings: %s", type(head).__name__, pruning.describe(), pruning.source
    )
    return LoadedModel(
        source.model_id,
        head,
        pruning,
        tokenizer,
        reader,
        device,
        dtype,
        ranks.rank,
        ranks.world_size,
        _all_ranks(ranks, policy),
    )


def _all_ranks(ranks: Rank, policy: MediaPolicy) -> Ranks:
    """The shards for which a request is read once.

    Copies of a model have no group before, and need one only where media are downloaded: a
    request's tokens come from each copy in turn, so all must have got the same.
    """
    if ranks.world_size == 1 or not (ranks.split or policy.allowed_hosts):
        return ALONE
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", rank=ranks.rank, world_size=ranks.world_size)
    return Ranks(torch.distributed.group.WORLD)


def _read_config(source: Source) -> Any:
    register_models()
    folder = local_folder(source.model_id, weights=False, revision=source.revision)
    own = read_own_config(folder)
    return AutoConfig.from_pretrained(source.model_id, **source.options) if own is None else own


def _default_dtype(config: Any, device: torch.device) -> torch.dtype:
    if device.type == "cpu":
        return torch.float32
    stated = getattr(config, "dtype", None)
    return stated if stated in (torch.float16, torch.bfloat16) else torch.float16


def _load(
    source: Source, config: Any, device: torch.device, dtype: torch.dtype, ranks: Rank
) -> nn.Module:
    kind = model_class(config)
    options: dict[str, Any] = {"dtype": dtype, **source.options}
    if own_model(config) is not None:
        options.pop("trust_remote_code")
    if not ranks.split:
        model: nn.Module = kind.from_pretrained(source.model_id, **options)
        return model.to(device)
    # transformers starts the process group itself, which it tells by torchrun's variables.
    os.environ.setdefault("LOCAL_RANK", str(ranks.rank))
    options |= tensor_parallel(ranks.world_size)
    split: nn.Module = kind.from_pretrained(source.model_id, **options)
    if not _is_split(split):
        raise UnsupportedError(
            f"transformers has no plan to split {kind.__name__} over shards. {_REPLICATE}"
        )
    return split


def _is_split(model: nn.Module) -> bool:
    from torch.distributed.tensor import DTensor

    return any(isinstance(weights, DTensor) for weights in model.parameters())


def _load_processor(source: Source, config: Any) -> tuple[Any, Any]:
    """The processor, None for a text-only model, and the tokenizer."""
    own = own_model(config)
    processors: Any = AutoProcessor if own is None else own.processor_class()
    options = source.options if own is None else {"revision": source.revision}
    processor = processors.from_pretrained(source.model_id, **options)
    if hasattr(processor, "tokenizer"):
        tokenizer = processor.tokenizer
    else:
        processor, tokenizer = (
            None,
            AutoTokenizer.from_pretrained(source.model_id, **source.options),
        )
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    return processor, tokenizer


def _name_ends(tokenizer: Any, generation_config: Any, config: Any) -> None:
    """Tell TGI every token that ends an answer, and one to pad with."""
    ends = getattr(generation_config, "eos_token_id", None)
    ends = getattr(config, "eos_token_id", None) if ends is None else ends
    if isinstance(ends, list):
        # Where TGI's own models put what their generation_config.json says.
        tokenizer._eos_token_ids = set(ends)
    elif tokenizer.eos_token_id is None and isinstance(ends, int):
        tokenizer.eos_token_id = ends
    if tokenizer.pad_token_id is None:
        pad = tokenizer.eos_token_id
        if pad is None:
            tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        else:
            tokenizer.pad_token_id = pad
