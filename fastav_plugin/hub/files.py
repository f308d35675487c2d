"""Files of a hub repository: those in the local cache, else downloaded."""

import fnmatch
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastav_plugin.display.units import size
from fastav_plugin.errors import ConfigError, in_short
from fastav_plugin.hub.ids import check_place, is_hub_id

logger = logging.getLogger(__name__)

#: Seconds until an answer of the hub must begin.
TIMEOUT = 10.0

#: Arguments of from_pretrained that say where and how to download.
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
#: Weights of other libraries and formats, and the same weights a second time.
_OTHERS = ("*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ot", "*.tflite", "*.ckpt", "original/*")
_TWICE = ("pytorch_model*.bin*", "consolidated*")
#: One of these is in every repository that can be asked something.
_TEXT = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_CONFIGS = ("config.json", "adapter_config.json")


def local_folder(
    place: str | os.PathLike[str],
    weights: bool = True,
    *,
    announce: Callable[[str], None] = logger.info,
    **options: Any,
) -> Path:
    """The folder of a checkpoint: itself, or where a hub repository lies in the local cache.

    What the cache holds of a repository is taken as it is; the hub is asked only for what is not
    there.

    Args:
        place: a folder, or a hub id.
        weights: whether weights and processor are needed too, or the configuration is enough.
        announce: called with one line before a download: the repository, its size and files.
        options: revision, cache_dir, token, local_files_only, force_download; others are ignored.

    Raises:
        ConfigError: no such folder, or a repository that is not in the cache and cannot be
            downloaded.
    """
    check_place(place)
    if not is_hub_id(place):
        return Path(place).expanduser()
    from huggingface_hub import snapshot_download

    known = {name: options[name] for name in HUB_OPTIONS if options.get(name) is not None}
    cached = None if known.get("force_download") else _snapshot(place, known)
    loadable = cached is not None and (not weights or _has_weights(cached))
    if cached is not None and loadable and (not weights or _has_text(cached)):
        return cached
    where = "only in part in the local cache" if cached is not None else "not in the local cache"
    what = f"'{place}' is not a folder, {where}"
    try:
        if known.get("local_files_only"):
            raise ConfigError(f"{what}, and local_files_only forbids to download it.")
        names = _announced(str(place), weights, known, announce)
        return Path(snapshot_download(str(place), allow_patterns=names, **known))
    except Exception as error:  # errors of several network libraries
        if cached is not None and loadable:
            return cached
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{what}, and {_reason(error)}") from error


def cached_file(place: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a hub repository, if the local cache has it. The hub is never asked."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(place, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def hub_file(place: str, name: str) -> Path:
    """A file of a hub repository, from the local cache, else downloaded.

    Raises:
        ConfigError: the repository has no such file, or it is not in the cache and the hub cannot
            be reached.
    """
    found = cached_file(place, name)
    if found is not None:
        return found
    from huggingface_hub import HfApi, hf_hub_download

    try:
        # The download would try again and again where no hub can be reached.
        there = _names(HfApi().model_info(place, timeout=TIMEOUT))
        if name in there:
            return Path(hf_hub_download(place, name))
    except Exception as error:  # errors of several network libraries
        raise ConfigError(
            f"'{name}' of '{place}' is not in the local cache, '{place}' is not a folder, and "
            f"{_reason(error)}"
        ) from error
    raise ConfigError(f"'{place}' on the hub holds no '{name}'.")


def _snapshot(place: str | os.PathLike[str], options: dict[str, Any]) -> Path | None:
    """The folder of a repository in the cache, complete or not."""
    from huggingface_hub import try_to_load_from_cache

    for name in _CONFIGS:
        found = try_to_load_from_cache(
            str(place),
            name,
            cache_dir=options.get("cache_dir"),
            revision=options.get("revision"),
        )
        if isinstance(found, str):
            return Path(found).parent
    return None


def _has_weights(folder: Path) -> bool:
    """Whether a snapshot holds weights, and all shards of an index."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.exists()}
    needed: set[str] = set()
    for index in folder.glob("*.index.json"):
        try:
            needed |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
    return needed <= names and bool(_weights(names))


def _has_text(folder: Path) -> bool:
    """Whether a snapshot holds what turns words into ids; an adapter may leave it to its base."""
    return any((folder / name).exists() for name in (*_TEXT, "adapter_config.json"))


def _announced(
    place: str, weights: bool, options: dict[str, Any], announce: Callable[[str], None]
) -> list[str]:
    """The names to download, which are said with their size."""
    from huggingface_hub import HfApi

    info = HfApi(token=options.get("token")).model_info(
        place, revision=options.get("revision"), files_metadata=True, timeout=TIMEOUT
    )
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    left_out = {*_match(sizes, _OTHERS)}
    if not weights:
        left_out |= {*_weights(sizes)}
    elif any(_match(sizes, ("model*.safetensors",))):
        left_out |= {*_match(sizes, _TWICE)}
    names = [name for name in sizes if name not in left_out]
    total = size(sum(sizes[name] for name in names))
    announce(f"Downloading {place}: {total} in {len(names)} files")
    return names


def _names(info: Any) -> set[str]:
    return {each.rfilename for each in info.siblings or ()}


def _weights(names: Iterable[str]) -> list[str]:
    """Files of weights; a calibration, which lies beside the settings, is none."""
    return [name for name in _match(names, _WEIGHTS) if not name.startswith("fastav_")]


def _match(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name, each) for each in patterns)]


def _reason(error: Exception) -> str:
    """Why a download failed, in words that say what to do."""
    from huggingface_hub import errors

    first = in_short(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it to download it."
    if isinstance(error, errors.GatedRepoError):
        return "it is gated: accept its terms on the hub, then log in with `hf auth login`."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is none of that name on the hub (a private one needs `hf auth login`)."
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub refused it: {first}"
    return f"the hub cannot be reached: {first}"
