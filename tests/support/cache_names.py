"""Keywords for a cache, by the name that the installed transformers has for it."""

from __future__ import annotations

from typing import Any

from fastav_plugin.upstream.arguments import cache_name

#: "cache" from transformers 5.24 on, "past_key_values" before.
CACHE = cache_name()


def passing(cache: Any) -> dict[str, Any]:
    """What gives a model or generate() this cache: `**passing(cache)`; nothing for None."""
    return {} if cache is None else {CACHE: cache}
