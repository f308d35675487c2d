"""PEFT adapters merged into the tensors of their base, every tensor accounted for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.own_models.checkpoint import read_tensors

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
#: Settings of PEFT under which the sum below would not be what was trained, with their defaults.
_PLAIN: dict[str, Any] = {
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def merge_adapter(
    base: Mapping[str, Tensor], folder: Path, rename: Callable[[str], str]
) -> dict[str, Tensor]:
    """Add an adapter's low-rank updates to its base, and put the parts it trained whole in place.

    Done by name, so that an adapter of the decoder never touches layers of another tower that
    are called alike.

    Args:
        base: tensors of the base by our names.
        folder: holds adapter_config.json and the adapter's weights.
        rename: a published name into ours.

    Raises:
        ConfigError: another kind of adapter, or a tensor that has no place in the base.
    """
    settings = adapter_settings(folder)
    scale = _scale(settings, folder)
    tensors = read_tensors(folder, files=_WEIGHTS)
    if not tensors:
        raise ConfigError(f"The adapter in '{folder}' holds no tensors. Download it again.")
    updates: dict[str, dict[str, Tensor]] = {}
    found = dict(base)
    for name, tensor in tensors.items():
        place = name.removeprefix(_PREFIX)
        low_rank = _LORA.fullmatch(place)
        if low_rank:
            updates.setdefault(rename(low_rank[1] + ".weight"), {})[low_rank[2]] = tensor
            continue
        whole = rename(re.sub(r"\.modules_to_save(\.default)?", "", place))
        _check(name, whole, tensor.shape, base)
        found[whole] = tensor
    for place, halves in updates.items():
        if set(halves) != {"A", "B"}:
            raise ConfigError(f"'{folder}' holds half an update of {place}: {sorted(halves)}.")
        down, up = halves["A"].float(), halves["B"].float()
        if {down.shape[0], up.shape[1]} != {int(settings["r"])}:
            raise ConfigError(
                f"The adapter's update of {place} has rank {down.shape[0]} and {up.shape[1]}, its "
                f"{ADAPTER_CONFIG} states `r` {settings['r']}. Are both of one adapter?"
            )
        _check(place, place, torch.Size((up.shape[0], down.shape[1])), base)
        found[place] = (base[place].float() + scale * (up @ down)).to(base[place].dtype)
    return found


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What adapter_config.json states.

    Raises:
        ConfigError: the file is no JSON object, or states no rank.
    """
    path = folder / ADAPTER_CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(found, dict) and int(found["r"]) > 0 and float(found["lora_alpha"]) > 0
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"'{path}' cannot be read as settings of LoRA: {error!r}.") from error
    if not whole:
        raise ConfigError(f"'{path}' must state `r` and `lora_alpha` above zero.")
    return dict(found)


def _scale(settings: Mapping[str, Any], folder: Path) -> float:
    if settings.get("peft_type", "LORA") != "LORA":
        raise ConfigError(
            f"'{folder}' holds an adapter of type {settings['peft_type']!r}; known is 'LORA'."
        )
    for name, plain in _PLAIN.items():
        if settings.get(name, plain) not in (plain, None):
            raise ConfigError(
                f"The adapter in '{folder}' has `{name}` {settings[name]!r}, which is not merged "
                f"here; known is {plain!r}. Merge it with peft first."
            )
    rank = int(settings["r"])
    return float(settings["lora_alpha"]) / (rank**0.5 if settings.get("use_rslora") else rank)


def _check(name: str, place: str, shape: torch.Size, base: Mapping[str, Tensor]) -> None:
    if place not in base:
        raise ConfigError(f"The adapter's tensor {name} has no place in its base: no {place}.")
    if base[place].shape != shape:
        raise ConfigError(
            f"The adapter's tensor {name} is made for {tuple(shape)}, its base has "
            f"{tuple(base[place].shape)}. Is this the base it was trained on?"
        )
