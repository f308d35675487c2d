"""Train the bundled model.

Run it with `python -m fastav_plugin.lab.testbed.training.train --output runs/testbed`.

Seeded and resumable: the same command resumes from the last checkpoint. Every clip is new, so the
shares of right answers in the log are those on unseen clips.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.model import build_model, build_processor, decoder_of
from fastav_plugin.lab.testbed.tasks import TASKS
from fastav_plugin.lab.testbed.training import packing
from fastav_plugin.lab.testbed.training.batches import make_batch
from fastav_plugin.lab.testbed.training.curriculum import (
    CURRICULUM,
    TrainingStage,
    seeds_of,
    stage_index,
)
from fastav_plugin.lab.testbed.training.objective import DenseTargets, Scores, compute_loss

_REPORT_EVERY = 25
_QUESTIONS_PER_CLIP = 12
# Shares of right answers are taken over so many steps.
_ENOUGH_STEPS = 100


class Trainer:
    """The model, its optimiser and how far the curriculum has come."""

    def __init__(self, output: Path, device: torch.device, *, compiled: bool = False) -> None:
        """Start from the checkpoint in `output`, or from seed 0 where there is none."""
        self.output = output
        self.device = device
        self.processor = build_processor()
        self.model = build_model().train().to(device)
        self.dense = DenseTargets().to(device)
        self.parameters = [*self.model.parameters(), *self.dense.parameters()]
        self.optimiser = torch.optim.AdamW(_decay_groups(self.parameters), betas=(0.9, 0.98))
        self.progress = {"stage": 0, "stage_step": 0, "step": 0, "clips": 0}
        self.recent: deque[Scores] = deque(maxlen=_ENOUGH_STEPS)
        packing.use_packed_attention(self.model)
        if self.checkpoint.exists():
            self._load()
        if compiled:
            for layer in (
                *decoder_of(self.model).layers,
                *packing.tower(self.model, "visual").blocks,
                *packing.tower(self.model, "audio_tower").layers,
            ):
                layer.compile(dynamic=False)

    @property
    def checkpoint(self) -> Path:
        """File that training resumes from."""
        return self.output / "checkpoint.pt"

    def start_stage(self, index: int) -> None:
        """Go to the beginning of a stage."""
        self.progress |= {"stage": index, "stage_step": 0}
        self.recent.clear()

    def step(self, stage: TrainingStage) -> float:
        """Train on the next batch of clips and return the loss."""
        seeds = seeds_of(self.progress["clips"], stage.batch)
        batch = make_batch(
            self.processor, stage.difficulty, seeds, _QUESTIONS_PER_CLIP, stage.focus
        )
        for group in self.optimiser.param_groups:
            group["lr"] = stage.learning_rate_at(self.progress["stage_step"])
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, scores = compute_loss(
                self.model,
                self.dense,
                batch.to(self.device),
                dense_weight=stage.dense_weight,
                towers_only=stage.towers_only,
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.recent.append(scores)
        self.progress["clips"] += stage.batch
        self.progress["stage_step"] += 1
        self.progress["step"] += 1
        return float(loss.detach())

    def accuracy(self) -> dict[str, float]:
        """Share of right answers of each task and dense target over the last steps."""
        totals: dict[str, list[float]] = {}
        for scores in self.recent:
            for name, (right, count) in scores.items():
                total = totals.setdefault(name, [0.0, 0.0])
                total[0] += right
                total[1] += count
        return {name: round(r / c, 4) for name, (r, c) in totals.items() if c}

    def is_done(self, stage: TrainingStage) -> bool:
        """Whether the stage has run its steps, or every share is high enough."""
        if self.progress["stage_step"] >= stage.steps:
            return True
        if len(self.recent) < _ENOUGH_STEPS:
            return False
        shares = self.accuracy()
        names = shares if stage.towers_only else TASKS
        return min(shares[name] for name in names) >= stage.enough

    def save(self) -> None:
        """Write the checkpoint; an interruption leaves the previous one in place."""
        state = {
            "model": self.model.state_dict(),
            "dense": self.dense.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": self.progress,
        }
        draft = self.checkpoint.with_suffix(".draft")
        torch.save(state, draft)
        os.replace(draft, self.checkpoint)

    def log(self, stage: TrainingStage, loss: float, seconds_per_step: float) -> None:
        """Append a line to the JSONL log and print it."""
        line: dict[str, Any] = {
            **self.progress,
            "stage": stage.name,
            "loss": round(loss, 4),
            "seconds_per_step": round(seconds_per_step, 3),
            "accuracy": self.accuracy(),
        }
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        typer.echo(json.dumps(line))

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.dense.load_state_dict(state["dense"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = state["progress"]


def export(model: Qwen2_5OmniThinkerForConditionalGeneration, path: Path) -> None:
    """Write the model in bfloat16 and its processor as ordinary files."""
    small = build_model()
    small.load_state_dict(model.state_dict())
    small.bfloat16().save_pretrained(path)
    build_processor().save_pretrained(path)


def train(
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint, log and model.")],
    stage: Annotated[str | None, typer.Option(help="Restart this stage.")] = None,
    device: Annotated[str, typer.Option(help="Where to train.")] = "cpu",
    save_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 180.0,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many steps.")] = None,
    compiled: Annotated[bool, typer.Option(help="Compile all transformer layers.")] = False,
) -> None:
    """Run the curriculum from the last checkpoint to the end, then write the model."""
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(output, torch.device(device), compiled=compiled)
    if stage is not None:
        trainer.start_stage(stage_index(stage))
    ended: list[int] = []
    # Asked to end, finish the step and write the checkpoint first.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        _run(trainer, ended, save_every, max_steps)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if trainer.progress["stage"] == len(CURRICULUM):
        export(trainer.model, output / "model")


def _run(trainer: Trainer, ended: list[int], save_every: float, max_steps: int | None) -> None:
    """Step through the curriculum until its end, a signal or `max_steps`."""
    last_step = None if max_steps is None else trainer.progress["step"] + max_steps
    saved, since = time.monotonic(), time.monotonic()
    losses: list[float] = []
    stop = False
    while trainer.progress["stage"] < len(CURRICULUM) and not stop:
        current = CURRICULUM[trainer.progress["stage"]]
        losses.append(trainer.step(current))
        if trainer.progress["step"] % _REPORT_EVERY == 0:
            now = time.monotonic()
            trainer.log(current, sum(losses) / len(losses), (now - since) / len(losses))
            losses, since = [], now
        done = trainer.is_done(current)
        if done:
            trainer.start_stage(trainer.progress["stage"] + 1)
        stop = bool(ended) or trainer.progress["step"] == last_step
        if done or stop or time.monotonic() - saved > save_every:
            trainer.save()
            saved = time.monotonic()


def _decay_groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


if __name__ == "__main__":
    typer.run(train)
