"""Small checkpoints of models that look, with their own processors, for the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer, vocabulary
from tests.support.family_configs import spread

#: Configuration and processor classes declare their arguments too strictly for mypy.
hub: Any = transformers

SIDE, PATCH = 96, 8
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
TEXT = SMALL | {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(vocabulary()),
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "eos_token_id": None,
}
TILES = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


def save(folder: Path, kind: str, config: Any, processor: Any) -> None:
    """Write a model with attentive random weights, and its processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hub, f"{kind}ForConditionalGeneration")(config)
        spread(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def tower(kind: str) -> dict[str, Any]:
    """A vision tower of 144 patches."""
    sizes = {"model_type": kind, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": PATCH}
    return sizes | SMALL | ({"vision_use_head": False} if kind.startswith("siglip") else {})


def save_llava_next(folder: Path) -> None:
    """LLaVA-NeXT: a picture and its tiles."""
    image = vocabulary()["<|IMAGE|>"]
    config = hub.LlavaNextConfig(
        vision_config=tower("clip_vision_model"),
        text_config=TEXT | {"model_type": "llama"},
        image_token_index=image,
        image_grid_pinpoints=TILES,
    )
    side = {"height": SIDE, "width": SIDE}
    pictures = hub.LlavaNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=side, image_grid_pinpoints=TILES
    )
    processor = hub.LlavaNextProcessor(
        pictures,
        build_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<|IMAGE|>",
        chat_template=CHAT_TEMPLATE,
    )
    save(folder, "LlavaNext", config, processor)


def save_llava_onevision(folder: Path) -> None:
    """LLaVA-OneVision: the same with another tower, and clips."""
    ids = vocabulary()
    config = hub.LlavaOnevisionConfig(
        vision_config=tower("siglip_vision_model"),
        text_config=TEXT | {"model_type": "qwen2"},
        image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        image_grid_pinpoints=TILES,
    )
    side = {"height": SIDE, "width": SIDE}
    processor = hub.LlavaOnevisionProcessor(
        hub.LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=TILES),
        build_tokenizer(),
        hub.LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        image_token="<|IMAGE|>",
        video_token="<|VIDEO|>",
        chat_template=CHAT_TEMPLATE,
    )
    save(folder, "LlavaOnevision", config, processor)


def save_qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL, with the picture sizes of the published processor."""
    ids = vocabulary()
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [1, 1, 2]}
    config = hub.Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": TEXT["hidden_size"],
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|IMAGE|>"],
        video_token_id=ids["<|VIDEO|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
    )
    processor = hub.Qwen2_5_VLProcessor(
        hub.Qwen2VLImageProcessor(),
        build_tokenizer(),
        hub.Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    save(folder, "Qwen2_5_VL", config, processor)
