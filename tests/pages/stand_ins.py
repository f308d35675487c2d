"""What the examples of the pages name: small checkpoints under published names, and media files.

transformers looks for a folder before it asks the Hub. So a folder "Qwen/Qwen2.5-Omni-7B" below the
working folder is what an example loads, and nothing is patched.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file

from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import SAMPLES
from tests.model_overrides.video_salmonn2 import published, tiny
from tests.model_overrides.videollama2.checkpoint import write_official
from tests.pages import picture_models
from tests.support.checkpoints import save_llava

OMNI = "Qwen/Qwen2.5-Omni-7B"
LLAVA = "llava-hf/llava-1.5-7b-hf"
LLAVA_NEXT = "llava-hf/llava-v1.6-mistral-7b-hf"
LLAVA_ONEVISION = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
QWEN_VL = "Qwen/Qwen2.5-VL-7B-Instruct"
#: A folder that the examples download into.
VIDEOLLAMA2 = "VideoLLaMA2.1-7B-AV"
SALMONN = "tsinghua-ee/video-SALMONN-2"
SALMONN_PLUS = "tsinghua-ee/video-SALMONN2_plus_7B_full"
#: Pages of scripts in deploy/examples/, and what their scripts load.
FAMILIES = {
    "qwen2_5_omni": [OMNI],
    "llava": [LLAVA, LLAVA_NEXT, LLAVA_ONEVISION],
    "qwen2_5_vl": [QWEN_VL],
    "videollama2": [VIDEOLLAMA2],
    "video_salmonn2": [SALMONN, SALMONN_PLUS],
}


def make(folder: Path) -> None:
    """Fill a folder with all of them."""
    save_omni(folder / OMNI)
    save_llava(folder / LLAVA)
    picture_models.save_llava_next(folder / LLAVA_NEXT)
    picture_models.save_llava_onevision(folder / LLAVA_ONEVISION)
    picture_models.save_qwen2_5_vl(folder / QWEN_VL)
    write_official(folder / VIDEOLLAMA2)
    for name, kind in ((SALMONN, "video_salmonn2"), (SALMONN_PLUS, "video_salmonn2_plus")):
        published.write_folder(folder / name, kind, tiny.build(kind))
        tiny.tokenizer().save_pretrained(folder / name)
    (folder / "pruning").mkdir()
    shutil.copy(MODEL_PATH / CONFIG_NAME, folder / "pruning")
    shutil.copy(SAMPLES[0].path, folder / "clip.mp4")
    pixels = np.random.default_rng(0).integers(0, 255, (336, 448, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")


def save_omni(folder: Path) -> None:
    """The bundled model in the layout of a published Qwen2.5-Omni: a thinker inside the whole."""
    shutil.copytree(MODEL_PATH, folder, ignore=shutil.ignore_patterns("README.md", "fastav*"))
    thinker = json.loads((folder / "config.json").read_text())
    whole = {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "thinker_config": thinker,
    }
    (folder / "config.json").write_text(json.dumps(whole))
    tensors = load_file(folder / "model.safetensors")
    named = {f"thinker.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
