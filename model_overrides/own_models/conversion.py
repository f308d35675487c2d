"""Checkpoints in their authors' layout into plain transformers folders, once for good."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from fastav_plugin.errors import ConfigError, in_short
from fastav_plugin.model_overrides.own_models.registry import own_model, read_own_config

#: Pieces of work that `convert` reports.
STEPS = 4


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        model_type: of the model.
        parameters: numbers in its weights.
        dtype: of the weights, as they were.
        bytes: size of the new folder.
        files: names in the new folder.
    """

    model_type: str
    parameters: int
    dtype: str
    bytes: int
    files: list[str]


def convert(
    source: Path, target: Path, tick: Callable[[str], None] = lambda name: None
) -> Converted:
    """Write a checkpoint folder of the authors anew as `save_pretrained` does.

    The folder appears when it is whole: an interrupted conversion leaves nothing behind that could
    be taken for one.

    Args:
        source: the authors' folder.
        target: folder to write; must not be there, or be empty.
        tick: called after each of `STEPS` pieces of work with its name.

    Raises:
        ConfigError: the source is of no model of ours, lacks files, or is plain already; or the
            target is in use.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"'{target}' is in use. Name a folder that is not there yet.")
    try:
        config = read_own_config(source)
        if config is None:
            config = AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        first = in_short(error)
        raise ConfigError(f"'{source}' holds no model that can be converted: {first}") from error
    own = own_model(config)
    if own is None:
        raise ConfigError(
            f"'{source}' holds a {config.model_type!r}, which transformers reads as it is."
        )
    if not own.official(source):
        raise ConfigError(f"'{source}' is no checkpoint in its authors' layout: it is plain.")
    model = own.model_class().from_pretrained(source, local_files_only=True)
    tick("weights read")
    processor = own.processor_class().from_pretrained(source, local_files_only=True)
    tick("processor made")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        whole = Path(folder) / "whole"
        model.save_pretrained(whole)
        tick("weights written")
        processor.save_pretrained(whole)
        if target.exists():
            target.rmdir()
        shutil.move(whole, target)
        tick("done")
    files = sorted(path for path in target.iterdir())
    return Converted(
        model_type=config.model_type,
        parameters=model.num_parameters(),
        dtype=str(model.dtype).removeprefix("torch."),
        bytes=sum(path.stat().st_size for path in files),
        files=[path.name for path in files],
    )
