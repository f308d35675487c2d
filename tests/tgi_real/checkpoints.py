"""Folders of tiny models with their real processors, and the files that requests name."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.lab.testbed.words import CHAT_TEMPLATE, build_tokenizer, vocabulary
from fastav_plugin.media.sound import read_sound
from tests.support.checkpoints import save_llava
from tests.support.family_configs import MROPE, WINDOWED, spread

hub: Any = transformers


def save_opt(folder: Path) -> None:
    """A model that TGI serves on a CPU without this package: the driver's control."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 3}
    ids = {"vocab_size": len(vocabulary()), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = hub.OPTConfig(num_attention_heads=4, max_position_embeddings=2304, **sizes, **ids)
    model = hub.OPTForCausalLM(config)
    spread(model)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


def _spread_again(folder: Path, kind: str) -> None:
    """Make the random weights of a saved model attentive, so that every row counts."""
    model = getattr(hub, kind).from_pretrained(folder)
    torch.manual_seed(7)
    spread(model)
    model.save_pretrained(folder)


def save_tiny_llava(folder: Path) -> None:
    torch.manual_seed(2)
    save_llava(folder, num_hidden_layers=6)
    _spread_again(folder, "LlavaForConditionalGeneration")


def save_llava_next(folder: Path) -> None:
    """The tower of the LLaVA, on a picture and its tiles."""
    torch.manual_seed(3)
    save_llava(folder)
    plain = hub.LlavaConfig.from_pretrained(folder)
    tiles = [[96, 192], [192, 96]]
    config = hub.LlavaNextConfig(
        vision_config=plain.vision_config.to_dict(),
        text_config={**plain.text_config.to_dict(), "num_hidden_layers": 6},
        image_token_index=plain.image_token_id,
        image_grid_pinpoints=tiles,
    )
    processor = hub.LlavaProcessor.from_pretrained(folder)
    side = {"height": 96, "width": 96}
    images = hub.LlavaNextImageProcessor(
        size={"shortest_edge": 96}, crop_size=side, image_grid_pinpoints=tiles
    )
    hub.LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    hub.LlavaNextProcessor(
        image_processor=images,
        tokenizer=processor.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=processor.image_token,
        chat_template=processor.chat_template,
    ).save_pretrained(folder)
    _spread_again(folder, "LlavaNextForConditionalGeneration")


def save_qwen2_5_vl(folder: Path) -> None:
    """Three axes of positions: what is decoded needs the offset of its own prompt."""
    ids = vocabulary()
    torch.manual_seed(4)
    text = {
        **{"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 6},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(ids)},
        **{"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "rope_parameters": MROPE},
    }
    config = hub.Qwen2_5_VLConfig(
        text_config=text,
        vision_config={**WINDOWED, "patch_size": 14, "window_size": 56},
        image_token_id=ids["<|IMAGE|>"],
        video_token_id=ids["<|VIDEO|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
    )
    model = hub.Qwen2_5_VLForConditionalGeneration(config)
    spread(model)
    model.save_pretrained(folder)
    size = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}
    hub.Qwen2_5_VLProcessor(
        image_processor=hub.Qwen2VLImageProcessor(size=size),
        video_processor=hub.Qwen2VLVideoProcessor(size=size),
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)


def save_videollama2(folder: Path) -> None:
    from tests.model_overrides.videollama2.checkpoint import write_official

    write_official(folder)


def save_video_salmonn2(folder: Path) -> None:
    from tests.model_overrides.video_salmonn2 import tiny

    tiny.build("video_salmonn2").save_pretrained(folder)
    tiny.processor("video_salmonn2").save_pretrained(folder)


@dataclass(frozen=True)
class Files:
    """Media files of the requests.

    Attributes:
        folder: where they are; the server reads from nowhere else.
        pictures: of noise, of several sizes.
        clips: mp4 files with sound.
        sound: a wav file.
        corrupt: a picture cut off in its middle.
    """

    folder: Path
    pictures: list[Path]
    clips: list[Path]
    sound: Path
    corrupt: Path


def write_files(folder: Path) -> Files:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, size in enumerate([(96, 96), (96, 180), (150, 90), (64, 64)]):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
        pictures.append(folder / f"picture{number}.png")
        Image.fromarray(pixels).save(pictures[-1])
    clips = []
    for sample in SAMPLES:
        clips.append(folder / sample.path.name)
        clips[-1].write_bytes(sample.path.read_bytes())
    sound = folder / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        samples = read_sound(clips[1])[0][:32_000]
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    corrupt = folder / "corrupt.png"
    whole = pictures[0].read_bytes()
    corrupt.write_bytes(whole[: len(whole) // 3])
    return Files(folder, pictures, clips, sound, corrupt)


#: How each folder is made; the Qwen2.5-Omni is the trained model that ships with the plugin.
SAVERS: dict[str, Callable[[Path], None]] = {
    "opt": save_opt,
    "llava": save_tiny_llava,
    "llava_next": save_llava_next,
    "qwen2_5_vl": save_qwen2_5_vl,
    "videollama2": save_videollama2,
    "video_salmonn2": save_video_salmonn2,
}


def checkpoint(name: str, folder: Path) -> Path:
    """The folder of a tiny model, made if it is not there."""
    if name == "qwen2_5_omni":
        return MODEL_PATH
    found = folder / name
    if not (found / "config.json").exists():
        SAVERS[name](found)
    return found
