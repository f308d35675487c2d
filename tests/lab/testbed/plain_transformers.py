"""Ask the bundled model with transformers alone. Run by test_plain_transformers.

Takes the model's folder and JSON, a list of [clip, question]; prints as JSON, for each way to ask,
a list of [video tokens, answer].
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline

PIPELINES = ("any-to-any", "image-text-to-text")


def chat(clip: str, question: str) -> list[dict[str, Any]]:
    """Pictures, then sound, then the question, as the model was trained."""
    media = ({"type": kind, "path": clip} for kind in ("video", "audio"))
    return [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]


def main() -> None:
    folder, asked = sys.argv[1], json.loads(sys.argv[2])
    auto: Any = AutoProcessor
    processor = auto.from_pretrained(folder)
    model: Any = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32)
    found: dict[str, list[tuple[int, str]]] = {}

    def note(way: str, ids: Any) -> None:
        turn = processor.decode(ids, skip_special_tokens=True).rpartition("assistant")[2]
        video = int((torch.as_tensor(ids) == processor.tokenizer.video_token_id).sum())
        found.setdefault(way, []).append((video, turn.strip()))

    for clip, question in asked:
        inputs = processor.apply_chat_template(
            chat(clip, question),
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        note("apply_chat_template", model.generate(**inputs)[0])
    make: Any = pipeline
    for task in PIPELINES:
        try:
            run = make(task, model=folder, dtype=torch.float32, device="cpu")
        except ImportError:
            continue  # before transformers 5.23 one of them needs librosa
        for clip, question in asked:
            (answer,) = run(text=chat(clip, question), return_tensors=True)
            note(task, answer["generated_token_ids"])
    assert "fastav_plugin" not in sys.modules
    print(json.dumps(found))


if __name__ == "__main__":
    main()
