"""The published checkpoints: where their tensors lie, and what they are called here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig

from fastav_plugin.errors import ConfigError
from fastav_plugin.hub.files import HUB_OPTIONS, local_folder
from fastav_plugin.model_overrides.own_models.checkpoint import (
    fit_tensors,
    own_memory,
    read_tensors,
)
from fastav_plugin.model_overrides.video_salmonn2.checkpoint.adapters import (
    ADAPTER_CONFIG,
    adapter_settings,
    merge_adapter,
)

#: What our own config.json names.
_CLASSES = ("VideoSalmonn2ForConditionalGeneration", "VideoSalmonn2PlusForConditionalGeneration")


class PublishedCheckpoint:
    """Mixin of a model: from_pretrained reads the authors' folders, and its own, key by key.

    Every tensor of a folder must have a use or be known to have none, and every tensor of the
    model must be found, in its shape.
    """

    config_class: Any
    #: Begin of a published name, and of ours; the first that fits counts.
    names: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Patterns of our names for tensors that may be there and that nothing uses.
    unused: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def our_name(cls, name: str) -> str:
        """Our name of a published tensor; our own names stay."""
        for theirs, ours in cls.names:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: Any = None,
        base_model: str | Path | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a model from a folder of the authors or of ours, or from a PEFT adapter on one.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hub.
            model_args: for the model's constructor.
            config: a configuration in place of the folder's.
            base_model: folder of the model that an adapter was trained on; None for the one its
                adapter_config.json names.
            kwargs: as of transformers' from_pretrained.

        Raises:
            ConfigError: the folder lacks files, or holds tensors that do not fit.
        """
        place = pretrained_model_name_or_path
        if place is None:
            return super().from_pretrained(None, *model_args, config=config, **kwargs)  # type: ignore[misc]
        # An Auto class passes an adapter on as its base, with the adapter beside it.
        beside = kwargs.pop("adapter_kwargs", None) or {}
        if beside.get("_adapter_model_path"):
            place, base_model = beside["_adapter_model_path"], base_model or place
            kwargs["revision"] = beside.get("revision")
        folder = local_folder(place, **kwargs) / (kwargs.pop("subfolder", None) or "")
        adapter = folder if (folder / ADAPTER_CONFIG).exists() else None
        if adapter is not None:
            folder = local_folder(base_model or _base_of(adapter), **kwargs)
        config = cls._config(folder, config, kwargs)
        tensors = {cls.our_name(name): t for name, t in read_tensors(folder).items()}
        if adapter is not None:
            tensors = merge_adapter(tensors, adapter, cls.our_name)
        if "generation_config" not in kwargs and (folder / "generation_config.json").exists():
            kwargs["generation_config"] = GenerationConfig.from_pretrained(folder)
        for name in (*HUB_OPTIONS, "use_safetensors"):
            kwargs.pop(name, None)
        model = super().from_pretrained(  # type: ignore[misc]
            None, *model_args, config=config, state_dict=cls._fit(config, tensors), **kwargs
        )
        loaded = model[0] if isinstance(model, tuple) else model
        loaded.config.name_or_path = str(place)
        own_memory(loaded)
        return model

    @classmethod
    def _config(cls, folder: Path, config: Any, kwargs: dict[str, Any]) -> Any:
        """The folder's configuration, changed by keywords that it has."""
        if not isinstance(config, cls.config_class):
            config = cls.config_class.from_pretrained(config or folder)
        config = copy.deepcopy(config)
        for name in [name for name in kwargs if name in cls.config_class.__dataclass_fields__]:
            if name != "dtype":
                setattr(config, name, kwargs.pop(name))
        config.check()
        return config

    @classmethod
    def _fit(cls, config: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Exactly the model's tensors."""
        with torch.device("meta"):
            empty: Any = cls(config)  # type: ignore[call-arg]
        expected = {name: tensor.shape for name, tensor in empty.state_dict().items()}
        if config.tie_word_embeddings and "lm_head.weight" not in tensors:
            del expected["lm_head.weight"]
        return fit_tensors(tensors, expected, unused=cls.unused)


def is_official_folder(folder: str | Path) -> bool:
    """Whether a folder holds a checkpoint of the authors: not of our classes, or an adapter."""
    path = Path(folder)
    if (path / ADAPTER_CONFIG).exists():
        return True
    try:
        stated = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not set(stated.get("architectures") or ()) & set(_CLASSES)


def model_folder(folder: str | Path) -> Path:
    """The folder with the configuration: of an adapter, that of its base.

    Raises:
        ConfigError: the base is not on this machine, and cannot be had.
    """
    path = Path(folder)
    if not (path / ADAPTER_CONFIG).exists():
        return path
    return local_folder(_base_of(path), weights=False)


def _base_of(adapter: Path) -> str:
    """The folder or name of the model that an adapter was trained on."""
    stated = adapter_settings(adapter)
    named = str(stated.get("base_model_name_or_path") or "")
    # What stands there may be a path on the author's machine.
    beside = adapter.parent / Path(named).name
    if named and not Path(named).is_dir() and beside.is_dir():
        return str(beside)
    if not named or (Path(named).is_absolute() and not Path(named).is_dir()):
        raise ConfigError(
            f"'{adapter}' holds an adapter on {named!r}, which is not here. Download that model "
            f"into '{beside if named else adapter.parent}', or name its folder as `base_model`."
        )
    return named
