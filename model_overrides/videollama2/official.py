"""The published checkpoint's layout: its config.json and the names of its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Qwen2Config, SiglipVisionConfig

from fastav_plugin.errors import ConfigError

#: Sizes of the vision towers that a published config.json gives by name alone.
TOWERS: dict[str, dict[str, Any]] = {
    "siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    }
}
#: Values that config.json must have, where it has the key; nothing else is built here.
ASSUMED = {"mm_projector_type": "stc_connector_v35", "mm_vision_select_feature": "patch"}

#: Begin of the tensors' names: the checkpoint's, and ours. The first that fits counts.
_NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.vision_tower.", "model.vision_tower."),
    ("model.audio_tower.", "model.audio_tower."),
    ("model.mm_projector.", "model.mm_projector."),
    ("model.mm_projector_a.weight", "model.mm_projector_a.0.weight"),
    ("model.mm_projector_a.bias", "model.mm_projector_a.0.bias"),
    ("model.mm_projector_a.", "model.mm_projector_a."),
    ("model.", "model.language_model."),
)
#: Our names of tensors that are there, and that nothing here uses.
UNUSED = (
    "model.vision_tower.head.*",
    "model.vision_tower.embeddings.position_ids",
    "model.audio_tower.predictor.*",
    "model.language_model.layers.*.rotary_emb.inv_freq",
)
VISION, AUDIO = "model.vision_tower.", "model.audio_tower."
TABLE = "self_attn.relative_attention_bias.weight"


def is_official(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is the authors': flat, with the decoder's sizes beside `mm_*` keys."""
    return "text_config" not in config and "mm_projector_type" in config


def is_official_folder(folder: str | Path) -> bool:
    """Whether a folder holds a checkpoint in the authors' layout."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and is_official(config)


def translate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our config.json out of the authors'.

    Raises:
        ConfigError: a connector or vision tower that is not built here.
    """
    for key, value in ASSUMED.items():
        if config.get(key, value) != value:
            raise ConfigError(f"`{key}` must be {value!r} in config.json, got {config[key]!r}.")
    fields = {*Qwen2Config.__dataclass_fields__, "rope_theta", "rope_scaling"}
    general = {"architectures", "dtype", "torch_dtype", "transformers_version"}
    text = {name: value for name, value in config.items() if name in fields - general}
    audio = dict(config.get("audio_config") or {})
    if "mm_hidden_size_a" in config:
        audio.setdefault("hidden_size", config["mm_hidden_size_a"])
    found = {
        "model_type": config.get("model_type"),
        "architectures": ["VideoLlama2ForConditionalGeneration"],
        "dtype": config.get("dtype", config.get("torch_dtype")),
        "text_config": text,
        "vision_config": config.get("vision_config") or _tower(config.get("mm_vision_tower")),
        "audio_config": audio,
        "vision_feature_layer": config.get("mm_vision_select_layer", -2),
        "audio_projector_depth": _depth(config.get("mm_projector_a_type", "mlp2x_gelu")),
    }
    if config.get("num_frames"):
        found["num_frames"] = config["num_frames"]
    return found


def our_name(name: str) -> str:
    """Our name of a tensor of the published checkpoint."""
    for theirs, ours in _NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def unused_names(config: Any) -> tuple[str, ...]:
    """Patterns of tensors that may be there and have no use: UNUSED, and layers not built."""
    layers = range(used_layers(config), config.vision_config.num_hidden_layers)
    return UNUSED + tuple(f"{VISION}encoder.layers.{layer}.*" for layer in layers)


def used_layers(config: Any) -> int:
    """Layers of the vision tower up to the hidden state that is used.

    Raises:
        ConfigError: the tower has no such hidden state.
    """
    states = config.vision_config.num_hidden_layers + 1
    layer = config.vision_feature_layer
    wanted = layer if layer >= 0 else states + layer
    if not 1 <= wanted < states:
        raise ConfigError(
            f"`vision_feature_layer` {layer} names none of the tower's {states} hidden states "
            "but the first."
        )
    return int(wanted)


def _tower(name: str | None) -> dict[str, Any]:
    """Sizes of a vision tower given by name, or by the folder it lies in."""
    known = TOWERS.get(Path(name or "").name)
    if known is not None:
        return dict(known)
    if name and (Path(name) / "config.json").exists():
        return dict(SiglipVisionConfig.from_pretrained(name).to_dict())
    raise ConfigError(
        f"config.json names the vision tower {name!r}, whose sizes are not known here: "
        f"{', '.join(TOWERS)}. Add them to config.json as `vision_config`."
    )


def _depth(kind: str) -> int:
    """Linear layers of an audio projector."""
    found = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if kind != "linear" and found is None:
        raise ConfigError(
            f"`mm_projector_a_type` must be 'linear' or 'mlpNx_gelu' in config.json, got {kind!r}."
        )
    return 1 if found is None else int(found[1])
