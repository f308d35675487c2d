"""Tensors of the published checkpoint under our names, each with its place or its excuse."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.own_models.checkpoint import fit_tensors, read_tensors
from fastav_plugin.model_overrides.videollama2.beats import check_repeat
from fastav_plugin.model_overrides.videollama2.official import (
    AUDIO,
    TABLE,
    VISION,
    our_name,
    unused_names,
)

#: Tensors of the sound tower whose shapes tell its sizes.
_TELLING = (
    f"encoder.layers.0.{TABLE}",
    "encoder.pos_conv.0.weight_v",
    "patch_embedding.weight",
    "encoder.layers.0.fc1.weight",
)


def read_official(folder: Path, config: Any) -> dict[str, Tensor]:
    """Tensors of an official folder under our names; sizes that only they tell go into the config.

    Args:
        folder: the checkpoint.
        config: VideoLlama2Config read from it; changed in place.

    Raises:
        ConfigError: files are missing or broken, or the vision tower is nowhere.
    """
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # What stands there may be a path on the author's machine.
    sound = Path(stated.get("mm_audio_tower") or "audio_tower.bin").name
    separate = {sound: AUDIO, "mm_projector_a.bin": "model.mm_projector_a."}
    tensors = {our_name(name): t for name, t in read_tensors(folder, separate).items()}
    if not any(name.startswith(VISION) for name in tensors):
        tensors |= _read_tower(stated.get("mm_vision_tower"), folder, config)
    lacking = [name for name in _TELLING if AUDIO + name not in tensors]
    if lacking:
        raise ConfigError(
            f"'{folder}' lacks {len(lacking)} tensors of the sound tower: "
            f"{', '.join(lacking)}. Is '{sound}' there, and whole?"
        )
    _read_sizes(tensors, config)
    return tensors


def fit_official(
    tensors: Mapping[str, Tensor], config: Any, empty: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Exactly the tensors of a model.

    Args:
        tensors: as `read_official` gives them.
        config: of the model.
        empty: the model's own tensors, whose shapes count.

    Raises:
        ConfigError: lists what is unexpected, missing, or of a wrong shape.
    """
    first = f"{AUDIO}encoder.layers.0.{TABLE}"
    copies = [name for name in tensors if name.startswith(AUDIO) and name.endswith(TABLE)]
    copies.remove(first)
    for name in copies:
        check_repeat(name, tensors[first], tensors[name])
    expected = {name: tensor.shape for name, tensor in empty.items()}
    if config.tie_word_embeddings and "lm_head.weight" not in tensors:
        del expected["lm_head.weight"]
    return fit_tensors(tensors, expected, unused=(*unused_names(config), *copies))


def _read_tower(name: str | None, folder: Path, config: Any) -> dict[str, Tensor]:
    """Tensors of a vision tower that the checkpoint only names."""
    from transformers import SiglipVisionModel

    # Beside the checkpoint, then wherever the name leads.
    beside = folder / Path(name or "").name
    place = str(beside) if name and (beside / "config.json").exists() else name
    try:
        tower = SiglipVisionModel.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"'{folder}' holds no vision tower and names {name!r}, which is not on this machine. "
            f"Download it into '{beside}'."
        ) from error
    config.vision_config = tower.config
    return {VISION + key: tensor for key, tensor in tower.state_dict().items()}


def _read_sizes(tensors: Mapping[str, Tensor], config: Any) -> None:
    """Sizes that the published config.json leaves out, or has been seen to state wrongly."""
    config.connector_depth = _count(tensors, r"model\.mm_projector\.s1\.b\d+\.conv1\.conv\.weight")
    config.connector_mlp_depth = _count(tensors, r"model\.mm_projector\.readout\.\d+\.weight")
    config.audio_projector_depth = _count(tensors, r"model\.mm_projector_a\.\d+\.weight")
    shapes = {
        name.removeprefix(AUDIO): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith(AUDIO)
    }
    table, conv, patch, inner = (shapes[name] for name in _TELLING)
    audio = config.audio_config
    audio.num_buckets, audio.num_attention_heads = table
    audio.hidden_size, audio.conv_pos = conv[0], conv[2]
    audio.conv_pos_groups = conv[0] // conv[1]
    audio.patch_embed_size, audio.patch_size = patch[0], patch[2]
    audio.intermediate_size = inner[0]
    audio.num_hidden_layers = _count(shapes, r"encoder\.layers\.\d+\.fc1\.weight")


def _count(names: Mapping[str, Any], pattern: str) -> int:
    return max(1, sum(re.fullmatch(pattern, name) is not None for name in names))
