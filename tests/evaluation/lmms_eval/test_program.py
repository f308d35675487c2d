"""lmms-eval's own program with `--model fastav`, on local tasks, answers as generate() does.

It runs where lmms-eval is installed beside this package (deploy/examples/lmms_eval.md).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml  # type: ignore[import-untyped]
from PIL import Image

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.lab.testbed.samples import SAMPLES
from tests.pages import picture_models
from tests.support.cache_names import passing
from tests.support.checkpoints import save_llava
from tests.support.oracle import held_rows, masked_dense

if importlib.util.find_spec("lmms_eval") is None:
    pytest.skip("lmms-eval is not installed", allow_module_level=True)

#: Classes that declare their arguments too strictly for mypy.
hub: Any = transformers

TASKS = Path(__file__).parent / "tasks"
SETTINGS: dict[str, Any] = {
    "method": "fastav+divprune",
    "global_layer": 2,
    "global_rule": "below 100",
}
CUT = ",".join(f"{name}={value}" for name, value in SETTINGS.items())
NEW: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
QUESTIONS = (
    "Which colour is the circle?",
    "Is a square visible?",
    "Which shape is visible and which sound is heard?",
    "Which colour is the star and is the square red and the circle blue?",
)
CHOICES = ["red", "blue and green", "circle"]
LLAVA, ONEVISION = (
    f"base=llava_hf,pretrained={name},dtype=float32,device_map=cpu"
    for name in ("llava", "onevision,max_frames_num=8")
)
QWEN = "base=qwen2_5_vl,pretrained=qwen,device_map=cpu"
#: By name: the arguments of the model, the task, and other settings of the program.
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pictures": (f"{LLAVA},{CUT}", "pictures", {}),
    "dense": (f"{LLAVA},method=none", "pictures", {}),
    "choices": (f"{LLAVA},{CUT}", "choices", {"force_simple": True}),
    "batch": (f"{QWEN},{CUT}", "pictures", {"batch_size": 3}),
    "clips": (f"{ONEVISION},{CUT}", "clips", {"force_simple": True}),
    "chat": (f"{LLAVA},{CUT}", "choices", {}),
    "no cache": (f"{LLAVA},{CUT},use_cache=False", "pictures", {}),
    "no base": ("pretrained=llava", "pictures", {}),
    "no generate": ("base=dummy", "pictures", {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, tasks and what they show; the working folder of the program."""
    made = tmp_path_factory.mktemp("lmms_eval")
    torch.manual_seed(0)
    save_llava(made / "llava", initializer_range=0.3)
    picture_models.save_llava_onevision(made / "onevision")
    picture_models.save_qwen2_5_vl(made / "qwen")
    for name in ("llava", "onevision"):
        spell_as_published(made / name)
    shutil.copytree(TASKS, made / "tasks")
    draw = np.random.default_rng(0)
    rows = []
    for number, question in enumerate(QUESTIONS):
        pixels = draw.integers(0, 255, (280 + 56 * number, 336, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made / f"{number}.png")
        asked = {"picture": f"{number}.png", "question": question, "answer": "red"}
        rows.append({**asked, "choices": CHOICES, "right": number % 3})
    write(made / "pictures.jsonl", rows)
    shutil.copy(SAMPLES[0].path, made / "clip.mp4")
    clips = [{"clip": "clip.mp4", "question": text, "answer": "yes"} for text in QUESTIONS[:2]]
    write(made / "clips.jsonl", clips)
    return made


def spell_as_published(checkpoint: Path) -> None:
    """lmms-eval writes the placeholders of published LLaVAs into its prompts."""
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        text = (checkpoint / name).read_text().replace("<|IMAGE|>", "<image>")
        (checkpoint / name).write_text(text.replace("<|VIDEO|>", "<video>"))
    template = checkpoint / "chat_template.jinja"
    template.write_text(
        template.read_text().replace("<|IMAGE|>", "<image>").replace("<|VIDEO|>", "<video>")
    )


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def log(folder: Path) -> dict[str, str]:
    """What the program printed, by run: all in one process, because its start takes a minute."""
    runs = [
        {
            "model": "fastav",
            "model_args": arguments,
            "tasks": task,
            "batch_size": 1,
            "output_path": f"out/{name}",
            **settings,
        }
        for name, (arguments, task, settings) in RUNS.items()
    ]
    (folder / "runs.yaml").write_text(yaml.safe_dump(runs))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lmms_eval", "--config", "runs.yaml", "--include_path"),
            *("tasks", "--device", "cpu", "--log_samples"),
        ],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "Model 'fastav' not found" not in done.stdout, "install this checkout beside lmms-eval"
    _, *parts = done.stdout.split("Evaluation tracker args")
    assert len(parts) == len(RUNS), done.stdout[-4000:]
    return dict(zip(RUNS, parts, strict=True))


def samples(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the program saved of each question of a run, in order."""
    (file,) = (folder / "out" / name).rglob("*_samples_*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(rows, key=lambda row: int(row["doc_id"]))


def answers(folder: Path, name: str) -> list[str]:
    return [str(row["filtered_resps"]) for row in samples(folder, name)]


def throughput(folder: Path, name: str) -> dict[str, float]:
    (file,) = (folder / "out" / name).rglob("*_results.json")
    found: dict[str, float] = json.loads(file.read_text())["throughput"]
    return found


class Checkpoint:
    """A checkpoint outside lmms-eval."""

    def __init__(self, folder: Path, dtype: torch.dtype, **pixels: int) -> None:
        self.model: Any = hub.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype
        ).eval()
        self.processor: Any = hub.AutoProcessor.from_pretrained(folder, **pixels)
        self.config = FastAVConfig.for_model(self.model, **SETTINGS)

    @torch.no_grad()
    def answers(self, inputs: Any, *, prune: bool = True) -> tuple[list[str], Any]:
        """The answers of generate() to a batch, and its cache."""
        cache = FastAVCache(self.config) if prune else None
        ends = self.processor.tokenizer.eos_token_id
        ids = self.model.generate(
            **inputs, **NEW, **passing(cache), eos_token_id=ends, pad_token_id=ends
        )
        new = ids[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True), cache


def picture(folder: Path, number: int) -> Image.Image:
    return Image.open(folder / f"{number}.png").convert("RGB")


def llava_inputs(found: Checkpoint, folder: Path, number: int, *, simple: bool) -> Any:
    """As lmms-eval's llava_hf makes them, for tasks of messages or for simple ones."""
    parts = [{"type": "image"}, {"type": "text", "text": QUESTIONS[number]}]
    content = f"<image>\n{QUESTIONS[number]}" if simple else parts
    text = found.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return found.processor(images=picture(folder, number), text=text, return_tensors="pt")


@pytest.mark.parametrize(("name", "prune"), [("pictures", True), ("dense", False)])
def test_answers_one_by_one(folder: Path, log: dict[str, str], name: str, prune: bool) -> None:
    found = Checkpoint(folder / "llava", torch.float32)
    wanted = []
    for number in range(len(QUESTIONS)):
        inputs = llava_inputs(found, folder, number, simple=False)
        ((answer,), cache) = found.answers(inputs, prune=prune)
        wanted.append(answer.strip())
        assert cache is None or cache.report().flops_ratio < 0.5
    assert answers(folder, name) == wanted, log[name][-2000:]


def test_what_is_logged(folder: Path, log: dict[str, str]) -> None:
    assert answers(folder, "pictures") != answers(folder, "dense")
    found = throughput(folder, "pictures")
    assert 0.2 < found["avg_fastav_flops_ratio"] < 0.5
    assert found["avg_fastav_kept_tokens"] < 60 < 144 < found["avg_fastav_prompt_tokens"]
    assert found["avg_fastav_unpruned_prompts"] == 0
    assert "fastav: generate_until: 4 prompts, mean tokens" in log["pictures"]
    assert "Settings: the family's defaults, with method" in log["pictures"]
    assert throughput(folder, "dense")["avg_fastav_flops_ratio"] == 1
    assert "unpruned" not in log["pictures"].replace("fastav_unpruned_prompts", "")


# Bounds of pixels are given as lmms-eval gives them.
@pytest.mark.filterwarnings("ignore:Passing `min_pixels` and `max_pixels`:FutureWarning")
def test_a_batch_of_three(folder: Path, log: dict[str, str]) -> None:
    """Pictures of several sizes, in the batches that lmms-eval makes, in bfloat16 as it loads."""
    from qwen_vl_utils import process_vision_info  # type: ignore

    bounds = {"min_pixels": 256 * 28 * 28, "max_pixels": 1605632}
    found = Checkpoint(folder / "qwen", torch.bfloat16, **bounds)
    order = sorted(range(len(QUESTIONS)), key=lambda number: QUESTIONS[number])
    wanted: dict[int, str] = {}
    for chunk in (order[:3], order[3:]):
        messages = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": picture(folder, number)},
                        {"type": "text", "text": QUESTIONS[number]},
                    ],
                }
            ]
            for number in chunk
        ]
        inputs = found.processor(
            text=found.processor.apply_chat_template(messages, add_generation_prompt=True),
            images=process_vision_info(messages)[0],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        said, cache = found.answers(inputs)
        wanted |= dict(zip(chunk, said, strict=True))
        assert all(cache.report(row).reason is None for row in range(len(chunk)))
    assert answers(folder, "batch") == [wanted[number].strip() for number in sorted(wanted)]
    assert len(set(wanted.values())) > 1
    assert "4 prompts" in log["batch"]


def test_choices_are_scored_on_the_pruned_cache(folder: Path, log: dict[str, str]) -> None:
    """The loss of each is that of masked dense; what is hidden is what the question dropped."""
    found = Checkpoint(folder / "llava", torch.float32)
    for number, row in enumerate(samples(folder, "choices")):
        inputs = llava_inputs(found, folder, number, simple=True)
        _, cache = found.answers(inputs)
        held = held_rows(cache, inputs["input_ids"].shape[1])
        losses = []
        for choice in CHOICES:
            ids = found.processor.tokenizer.encode(f" {choice}", return_tensors="pt")
            logits = masked_dense(found.model, dict(inputs), held, forced=ids).logits[:, 0]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[0]).item())
        said = [float(loss) for loss, _ in row["filtered_resps"]]
        assert said == pytest.approx(losses, abs=1e-3), log["choices"][-2000:]
        assert row["acc"] == float(np.argmin(losses) == number % 3)
    assert "fastav: loglikelihood: 12 prompts" in log["choices"]
    assert throughput(folder, "choices")["avg_fastav_flops_ratio"] < 0.5


def test_clips(folder: Path, log: dict[str, str]) -> None:
    decord = pytest.importorskip("decord")
    reader = decord.VideoReader(str(folder / "clip.mp4"))
    frames = reader.get_batch(np.linspace(0, len(reader) - 1, 8, dtype=int).tolist()).asnumpy()
    found = Checkpoint(folder / "onevision", torch.float32)
    wanted = []
    for question in QUESTIONS[:2]:
        text = found.processor.apply_chat_template(
            [{"role": "user", "content": f"<video>\n{question}"}], add_generation_prompt=True
        )
        inputs = found.processor(videos=[frames], text=text, return_tensors="pt")
        ((answer,), cache) = found.answers(inputs)
        wanted.append(answer.strip())
        assert cache.report().modality_per_layer["video"][0] > 100
    assert answers(folder, "clips") == wanted, log["clips"][-2000:]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("chat", "Currently messages is used for generation only"),
        ("no cache", "use_cache=False leaves an attached model nothing to prune"),
        ("no base", "needs the name of the lmms-eval model that it prunes"),
        ("no generate", "holds no model without generate()"),
    ],
)
def test_what_is_refused_gives_no_figures(
    folder: Path, log: dict[str, str], name: str, error: str
) -> None:
    assert f"Error during evaluation: {error}" in log[name] or error in log[name]
    assert not list((folder / "out" / name).rglob("*.json*"))
