"""What takes the place of TGI's get_model where a launch asks for a model override."""

from __future__ import annotations

from typing import Any

import torch

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.tgi.causal_lm import serve_model
from fastav_plugin.model_overrides.tgi.launch_settings import LaunchSettings
from fastav_plugin.model_overrides.tgi.loading import Rank, Source, load_model
from fastav_plugin.model_overrides.tgi.log import route_log

_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def get_model(
    model_id: str,
    lora_adapter_ids: list[str] | None,
    revision: str | None,
    sharded: bool,
    quantize: str | None,
    speculate: int | None,
    dtype: Any,
    kv_cache_dtype: str | None,
    trust_remote_code: bool,
    max_input_tokens: int | None,
) -> Any:
    """Load the model that a shard serves, with the override that the environment asks for.

    The arguments are TGI's. `revision`, `dtype` and `trust_remote_code` are followed; `sharded`
    only says that there are several ranks, which the environment tells as well.

    Raises:
        UnsupportedError: an option that pruned models do not have, or a model that cannot be
            pruned.
        ConfigError: a setting, or the model's folder, cannot be used.
    """
    _refuse(lora_adapter_ids, quantize, speculate, kv_cache_dtype)
    from text_generation_server.utils.speculate import set_speculate

    route_log()
    set_speculate(0)
    settings = LaunchSettings.from_environment()
    source = Source(model_id, revision, _dtype(dtype), trust_remote_code)
    return serve_model(load_model(source, settings, Rank.from_environment()))


def _refuse(
    adapters: list[str] | None,
    quantize: str | None,
    speculate: int | None,
    kv_cache_dtype: str | None,
) -> None:
    refused = {
        "--lora-adapters": (adapters, "Merge the adapter into the checkpoint."),
        "--quantize": (
            quantize,
            "Serve a checkpoint that was saved quantized, which transformers reads as it is.",
        ),
        "--speculate": (speculate, "Decode without drafts."),
        "--kv-cache-dtype": (
            None if kv_cache_dtype == "auto" else kv_cache_dtype,
            "Keys and values are held in the model's own dtype.",
        ),
    }
    for option, (value, remedy) in refused.items():
        if value:
            raise UnsupportedError(
                f"{option} {value} does not work with a model override. {remedy}"
            )


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise UnsupportedError(f"--dtype {dtype} is not one of {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
