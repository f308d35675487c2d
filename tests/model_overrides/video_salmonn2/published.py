"""Checkpoint folders as the authors publish them, written from a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

#: Published names, and ours.
NAMES = {
    "video_salmonn2": [
        ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower.")
    ],
    "video_salmonn2_plus": [
        ("visual.", "model.visual."),
        ("audio.", "model.audio."),
        ("model.", "model.language_model."),
    ],
}


def published_name(name: str, key: str) -> str:
    """The authors' name of one of our tensors."""
    for theirs, ours in NAMES[name]:
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def published_config(name: str, model: Any) -> dict[str, Any]:
    """config.json as the authors have it: flat, and 2+ under the name of its base."""
    values: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    values.pop("transformers_version", None)
    if name == "video_salmonn2":
        values["architectures"] = ["VideoSALMONN2ForCausalLM"]
        return values | {"mm_vision_tower": "google/siglip-so400m-patch14-384"}
    values = values.pop("text_config") | values | {"model_type": "qwen2_5_vl"}
    values["architectures"] = ["video_SALMONN2_plus"]
    values["auto_map"] = {"AutoConfig": "elsewhere.Qwen2_5_VLConfig"}
    values["vision_config"]["model_type"] = "qwen2_5_vl"
    values["audio_config"]["model_type"] = "whisper"
    values["audio_config"]["qformer_config"] |= {"model_type": "bert", "query_length": 1}
    return values


def published_tensors(name: str, model: Any) -> dict[str, Tensor]:
    """The model's tensors under the authors' names, with a buffer that some versions keep."""
    tensors = {published_name(name, key): t for key, t in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    if name == "video_salmonn2":
        tensors["speech_Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    return tensors


def write_folder(folder: Path, name: str, model: Any, *, shards: int = 3) -> Path:
    """A published folder: config.json, and shards of safetensors with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published_config(name, model)))
    tensors = {key: t.contiguous() for key, t in published_tensors(name, model).items()}
    places: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        keys = sorted(tensors)[shard::shards]
        save_file({key: tensors[key] for key in keys}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(keys, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
