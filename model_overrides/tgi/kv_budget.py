"""How many tokens fit into the free memory, as TGI's router counts them.

The router adds up the tokens of requests before any cut: prompt, media included, and new tokens.
A text-only prompt is never cut, so by default each counted token is taken to need memory in every
layer. Where an operator knows that at least a share of every prompt is media, each counted token
needs less on average, and more requests fit. `--max-batch-total-tokens` goes before all this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from fastav_plugin.binding.binding import Binding
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides import find_override
from fastav_plugin.model_overrides.tgi.launch_settings import BUDGET
from fastav_plugin.model_overrides.tgi.loading import LoadedModel
from fastav_plugin.planning.dry_run import PromptSize, plan_tokens

#: Share of every prompt that is media at least, in [0, 1).
MEDIA_SHARE = "FASTAV_TGI_MEDIA_SHARE"
#: Of the free memory, what keys and values may take; TGI's own variable.
ROOM = "TGI_WIGGLE_ROOM"
_PROMPT = 2048
#: The protocol has 32 bits for it.
_MOST = 2**31


def supported_tokens(
    loaded: LoadedModel, longest: int, environment: Mapping[str, str] | None = None
) -> int | None:
    """Tokens of all requests together that fit into the free memory, as the router counts them.

    Args:
        loaded: the model, after its warm-up.
        longest: tokens of the longest request. The operator's own number is never less; a measured
            one may be, and then TGI says that there is not enough memory instead of starting.
        environment: None for the process's own.

    Returns:
        None where the free memory is unknown.

    Raises:
        ConfigError: a variable that is no share, or no number of tokens.
    """
    found = os.environ if environment is None else environment
    if found.get(BUDGET):
        if not found[BUDGET].isdecimal():
            raise ConfigError(f"`{BUDGET}` must be a number of tokens, got '{found[BUDGET]}'.")
        return max(longest, min(_MOST, int(found[BUDGET])))
    share = _share(found, MEDIA_SHARE, "0")
    room = _share(found, ROOM, "0.9")
    free = free_bytes(loaded.device)
    if free is None:
        return None
    if loaded.device.type == "cpu":
        free //= loaded.world_size  # which is one memory for all shards
    each = token_bytes(loaded) * kept_share(loaded, share)
    return min(_MOST, int(free * room / each))


def token_bytes(loaded: LoadedModel) -> int:
    """Bytes of keys and values of one token that no layer cuts, on this rank."""
    head: Any = loaded.head
    override = find_override(head)
    layers = len(override.parts(head).layers)
    cost = override.cost(head.config)
    size = torch.empty((), dtype=loaded.dtype).element_size()
    binding = Binding.of(head)
    assert binding is not None  # a loaded model is attached
    return 2 * layers * cost.kv_size * size // binding.model.ranks.size


def kept_share(loaded: LoadedModel, media: float, prompt: int = _PROMPT) -> float:
    """Share of a prompt's tokens in all layers that is left after the cuts.

    Args:
        loaded: the model.
        media: share of the prompt that is media, taken as half video and half audio where the
            model takes audio, as pictures where it takes no video.
        prompt: its tokens.
    """
    tokens = int(prompt * media)
    if not tokens:
        return 1.0
    kinds = loaded.reader.layout.takes
    video, audio = "video" in kinds, "audio" in kinds
    sound = tokens // 2 if audio and video else tokens if kinds == {"audio"} else 0
    size = PromptSize(
        text=prompt - tokens,
        image=0 if video else tokens - sound,
        video=tokens - sound if video else 0,
        audio=sound,
    )
    head: Any = loaded.head
    layers = len(find_override(head).parts(head).layers)
    config: FastAVConfig = loaded.config
    (counts,), _ = plan_tokens(config, size.token_map(), layers)
    return sum(counts) / (layers * prompt)


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process may still take.

    What torch keeps for itself is not free: the next prompts will compute in it as the warm-up did.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _share(found: Mapping[str, str], name: str, default: str) -> float:
    value = found.get(name) or default
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"`{name}` must be a share in [0, 1), got '{value}'.")
    return share
