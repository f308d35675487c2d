"""Tensors of a checkpoint folder by name, mapped from disk, and what they must be."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fastav_plugin.errors import ConfigError, in_short

#: Where the weights of a folder are looked for; the first that is there counts.
WEIGHT_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
#: Most names that an error lists.
_LISTED = 8


def read_tensors(
    folder: str | Path,
    separate: Mapping[str, str] | None = None,
    files: Sequence[str] = WEIGHT_FILES,
) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whichever files they are spread over.

    Nothing is copied: the tensors are maps of the files, read when they are used.

    Args:
        folder: holds `model.safetensors`, or shards with an index, or the same as torch files.
        separate: further torch files that may be there, with the prefix that their names get
            where they lack it. A name that the main files hold too is taken from those.
        files: names under which the weights are looked for; the first that is there counts.

    Raises:
        ConfigError: no weights, a missing or broken shard, or a torch file of more than tensors.
    """
    folder = Path(folder)
    main = next((folder / name for name in files if (folder / name).exists()), None)
    if main is None:
        raise ConfigError(f"'{folder}' holds no weights: none of {', '.join(files)} is there.")
    found: dict[str, Tensor] = {}
    for name, prefix in (separate or {}).items():
        if (folder / name).exists():
            tensors = _read_file(folder / name)
            found |= {
                key if key.startswith(prefix) else prefix + key: t for key, t in tensors.items()
            }
    if main.suffix != ".json":
        return found | _read_file(main)
    return found | _read_shards(main)


def fit_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    rename: Callable[[str], str] = str,
    unused: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors to a model's, and account for every one.

    Args:
        tensors: as `read_tensors` gives them.
        expected: shape of each tensor of the model.
        rename: a checkpoint's name into the model's.
        unused: patterns (`*` for anything) of renamed names that the model has no use for.

    Returns:
        Exactly the tensors of `expected`.

    Raises:
        ConfigError: lists names that are unexpected, missing, or of a wrong shape.
    """
    patterns = tuple(unused)
    renamed = {rename(name): tensor for name, tensor in tensors.items()}
    extra = [
        name
        for name in renamed
        if name not in expected and not any(fnmatch.fnmatch(name, p) for p in patterns)
    ]
    missing = [name for name in expected if name not in renamed]
    wrong = [
        f"{name} {tuple(renamed[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in renamed and tuple(renamed[name].shape) != tuple(shape)
    ]
    refuse_misfits(extra, missing, wrong)
    return {name: renamed[name] for name in expected}


def refuse_misfits(extra: Sequence[str], missing: Sequence[str], wrong: Sequence[str]) -> None:
    """Refuse a checkpoint whose tensors are not its model's.

    Args:
        extra: names that the model has not.
        missing: names that the checkpoint has not.
        wrong: names of another shape, with both shapes.

    Raises:
        ConfigError: lists them, if there are any.
    """
    problems = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("unexpected tensors", extra),
            ("missing tensors", missing),
            ("tensors of a wrong shape", wrong),
        )
        if names
    ]
    if problems:
        raise ConfigError(f"The checkpoint does not fit its config.json. {'. '.join(problems)}.")


def refuse_loaded_misfits(found: Mapping[str, Any], *, shapes: bool = True) -> None:
    """The same of a model that transformers has read.

    Args:
        found: what `from_pretrained` returned for `output_loading_info`.
        shapes: whether shapes count too.

    Raises:
        ConfigError: tensors are missing or left over, or have another shape.
    """
    wrong = [
        f"{name} {tuple(theirs)} instead of {tuple(ours)}"
        for name, theirs, ours in found["mismatched_keys"]
    ]
    lists = found["unexpected_keys"], found["missing_keys"], wrong if shapes else []
    refuse_misfits(*map(sorted, lists))


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"'{index}' is no index of weights: {error!r}.") from error
    files = sorted(set(places.values()))
    absent = [name for name in files if not (index.parent / name).exists()]
    if absent:
        raise ConfigError(
            f"'{index.parent}' lacks {len(absent)} of {len(files)} shards: {_listed(absent)}. "
            "Download them again."
        )
    found: dict[str, Tensor] = {}
    for name in files:
        found |= _read_file(index.parent / name)
    lost = sorted(set(places) - set(found))
    if lost:
        raise ConfigError(
            f"The shards in '{index.parent}' lack {len(lost)} tensors of their index: "
            f"{_listed(lost)}. Download them again."
        )
    return found


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        found = _read_torch(path)
    except Exception as error:  # damage of any kind, read by two libraries
        first = in_short(error)
        raise ConfigError(
            f"The weights file '{path}' cannot be read: {first}. Is its download complete?"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ConfigError(f"The weights file '{path}' must hold nothing but named tensors.")
    return found


def _read_torch(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor]
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files of the oldest format cannot be mapped.
        found = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def own_memory(model: nn.Module) -> None:
    """Copy into memory, one by one, the weights of a model that are still maps of files.

    A map is not aligned as memory is, which moves results by a rounding error, and would follow
    the file when that is written over.
    """
    for weight in (*model.parameters(), *model.buffers()):
        # Memory of torch's own can be resized; a map cannot.
        if weight.device.type == "cpu" and not weight.untyped_storage().resizable():
            weight.data = weight.data.clone()
