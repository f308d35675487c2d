"""Run the stages of a training: schedule, log, tests, checkpoints."""

import json
import math
import os
import random
import signal
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.lab.real_audio.training import parallel

_LOG_EVERY, _SAVE_EVERY = 10, 180.0
_LEAST = 0.03


class Stage(ABC):
    """One stage of the training.

    Args:
        name: in log and checkpoint.
        minutes: of computing, however often it is interrupted.
        rates: the highest learning rate of each group of parameters.
    """

    name: str
    minutes: float
    warm_up: int = 20
    test_every: int = 100
    weight_decay: float = 0.0

    @abstractmethod
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, with its highest learning rate."""

    @abstractmethod
    def step(self, source: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of the next batch, and figures for the log."""

    @abstractmethod
    def test(self) -> dict[str, Any]:
        """How good it is on test clips."""


class Run:
    """A training in a folder: what is trained, and how far it is.

    Args:
        folder: of log and checkpoint.
        modules: everything that any stage trains.
    """

    def __init__(self, folder: Path, modules: nn.Module) -> None:
        self.folder = folder
        self.modules = modules
        self.state: dict[str, Any] = {"stage": 0, "elapsed": 0.0, "step": 0, "optimiser": None}
        self._ended = False
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=False)
            modules.load_state_dict(state.pop("modules"))
            self.state = state

    @property
    def checkpoint(self) -> Path:
        """File that the training resumes from."""
        return self.folder / "checkpoint.pt"

    def run(self, stages: list[Stage]) -> bool:
        """Run what is left of the stages; False if SIGTERM ended it before the last was done."""
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(self, "_ended", True))
        while self.state["stage"] < len(stages) and not self._ended:
            stage = stages[self.state["stage"]]
            if self._run_stage(stage):
                self._test(stage, done=True)
                done = {"stage": self.state["stage"] + 1, "elapsed": 0.0, "step": 0}
                self.state = {**done, "optimiser": None}
                self.save()
        return not self._ended

    def _run_stage(self, stage: Stage) -> bool:
        parameters = [parameter for group, _ in stage.groups() for parameter in group]
        optimiser = torch.optim.AdamW(
            [{"params": group} for group, _ in stage.groups()],
            betas=(0.9, 0.98),
            weight_decay=stage.weight_decay,
        )
        if self.state["optimiser"] is not None:
            optimiser.load_state_dict(self.state["optimiser"])
        # A resumed run draws other batches than it would have without the interruption.
        source = random.Random(f"{stage.name}-{self.state['step']}-{parallel.rank()}")
        torch.manual_seed(source.getrandbits(32))
        figures: dict[str, list[float]] = defaultdict(list)
        saved = since = time.monotonic()
        while self.state["elapsed"] < stage.minutes * 60 and not self._ended:
            begun = time.monotonic()
            progress = self.state["elapsed"] / (stage.minutes * 60)
            factor = self._factor(stage, progress)
            for group, (_, rate) in zip(optimiser.param_groups, stage.groups(), strict=True):
                group["lr"] = rate * factor
            loss, values = stage.step(source, progress)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            parallel.average_gradients(parameters)
            values["norm"] = float(nn.utils.clip_grad_norm_(parameters, 1.0))
            optimiser.step()
            self.state["step"] += 1
            seconds, ended = parallel.average((time.monotonic() - begun, float(self._ended)))
            self.state["elapsed"] += seconds
            self._ended = ended > 0
            for name, value in {"loss": float(loss.detach()), **values}.items():
                figures[name].append(value)
            if self.state["step"] % _LOG_EVERY == 0:
                means = {name: sum(all_) / len(all_) for name, all_ in figures.items()}
                speed = _LOG_EVERY / (time.monotonic() - since) * 60
                self.log(stage, {"steps/min": speed, **means})
                figures.clear()
                since = time.monotonic()
            if self.state["step"] % stage.test_every == 0:
                self._test(stage)
                since = time.monotonic()
            if time.monotonic() - saved > _SAVE_EVERY or self._ended:
                self.save(optimiser)
                saved = time.monotonic()
        return not self._ended

    def _test(self, stage: Stage, **more: bool) -> None:
        if not parallel.rank():
            self.log(stage, {"test": stage.test(), **more})

    def _factor(self, stage: Stage, progress: float) -> float:
        """Warm-up by steps, then half a cosine over the stage's time."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))
        step: int = self.state["step"]
        return min(1.0, (step + 1) / stage.warm_up) * max(_LEAST, cosine)

    def save(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Write the checkpoint; an interruption leaves the previous one in place."""
        if parallel.rank():
            return
        state = {**self.state, "modules": self.modules.state_dict()}
        state["optimiser"] = None if optimiser is None else optimiser.state_dict()
        draft = self.checkpoint.with_suffix(".draft")
        torch.save(state, draft)
        os.replace(draft, self.checkpoint)

    def log(self, stage: Stage, figures: dict[str, Any]) -> None:
        """Print a line of JSON and append it to the log; the first process alone does."""
        if parallel.rank():
            return
        line = json.dumps(
            {
                "stage": stage.name,
                "minutes": round(self.state["elapsed"] / 60, 2),
                "step": self.state["step"],
                **{n: round(v, 4) if isinstance(v, float) else v for n, v in figures.items()},
            }
        )
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")
