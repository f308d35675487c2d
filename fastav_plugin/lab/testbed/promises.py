"""How often a calibration keeps its word: `python -m fastav_plugin.lab.testbed.promises`.

Calibrates the bundled model again and again, each time on other clips, and measures what was chosen
on clips that no calibration has seen. Two policies are compared on the same clips.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.calibration.data import PromptSource
from fastav_plugin.calibration.fidelity import Fidelity, measure_fidelity
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.calibration.run import calibrate
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.sample import SampleInputs, move_inputs
from fastav_plugin.lab.testbed.calibration_source import generated_source
from fastav_plugin.lab.testbed.model import MODEL_PATH

#: Seed of the first calibration's held-out clips; calibrations use the seeds below.
_HELD_OUT = 10_000

#: Policies by name: the fields of a plan in which they differ. "before" chooses among positional
#: rules as well, by the whole limit, and checks the mean on a third of the samples.
POLICIES: dict[str, dict[str, Any]] = {
    "before": {
        "margin": 0.0,
        "thresholds": (0.1, 0.3, 0.5, 0.7, 0.9),
        "drop_ratios": (0.1, 0.2, 0.4),
    },
    "after": {},
}


@dataclass(frozen=True)
class Promise:
    """One calibration, and what became of what it chose.

    Attributes:
        policy: a name of `POLICIES`.
        seed: of its clips.
        chosen: fields of FastAVConfig; None where no setting passed.
        flops_ratio: of what was chosen, on the held-out clips; None as above.
        kl: its mean KL there, in nats.
        kept: whether that is within the limit.
    """

    policy: str
    seed: int
    chosen: dict[str, Any] | None = None
    flops_ratio: float | None = None
    kl: float | None = None
    kept: bool | None = None


class KnownFidelity:
    """`measure_fidelity` that measures nothing twice, also across runs.

    Args:
        path: a JSON-lines file of what is known, added to; None to keep it in memory alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Fidelity] = {}
        self.measured = 0
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                key, values = json.loads(line)
                self._known[key] = Fidelity(*values)

    def __call__(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        configs: Sequence[FastAVConfig],
        tokens: int,
    ) -> list[Fidelity]:
        """As `measure_fidelity`."""
        prompt = _digest(inputs)
        keys = [f"{prompt} {tokens} {_digest(config.to_dict())}" for config in configs]
        new = [index for index, key in enumerate(keys) if key not in self._known]
        if new:
            found = measure_fidelity(model, inputs, [configs[index] for index in new], tokens)
            self._add({keys[index]: each for index, each in zip(new, found, strict=True)})
        return [self._known[key] for key in keys]

    def _add(self, found: Mapping[str, Fidelity]) -> None:
        self._known.update(found)
        self.measured += len(found)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(pair)}\n" for pair in found.items())


def keep_promises(
    model: Any,
    prepare: SampleInputs,
    plan: CalibrationPlan,
    seeds: Sequence[int],
    held_out: int,
    measure: KnownFidelity,
) -> Iterator[Promise]:
    """Calibrate once for each policy and seed, and hold each choice against clips of its own.

    Args:
        model: the bundled model.
        prepare: makes its inputs.
        plan: what the policies have in common; `samples` is the number of clips.
        seeds: of the calibrations.
        held_out: clips to measure each choice on.
        measure: what is known already.
    """
    for seed in seeds:
        source = _kept_inputs(generated_source(prepare, plan.samples, seed))
        others = _kept_inputs(generated_source(prepare, held_out, _HELD_OUT + seed))
        for policy, fields in POLICIES.items():
            chosen = _choose(model, source, _changed(plan, fields), measure)
            if chosen is None:
                yield Promise(policy, seed)
                continue
            config = FastAVConfig(**{"method": plan.method, **chosen})
            found = [
                measure(model, move_inputs(others.inputs(index), model), [config], plan.tokens)[0]
                for index in range(held_out)
            ]
            kl = statistics.fmean(each.kl for each in found)
            flops = statistics.fmean(each.flops_ratio for each in found)
            yield Promise(policy, seed, chosen, flops, kl, kl <= plan.max_kl)


def summarize(promises: Sequence[Promise]) -> dict[str, Any]:
    """How many promises each policy made and kept, at what mean cost."""
    found: dict[str, Any] = {}
    for policy in POLICIES:
        own = [each for each in promises if each.policy == policy]
        made = [each for each in own if each.kept is not None]
        flops = [each.flops_ratio for each in made if each.flops_ratio is not None]
        kls = [each.kl for each in made if each.kl is not None]
        found[policy] = {
            "calibrations": len(own),
            "made": len(made),
            "kept": sum(each.kept is True for each in made),
            "flops_ratio": statistics.fmean(flops) if flops else None,
            "median_kl": statistics.median(kls) if kls else None,
        }
    return found


def run(
    calibrations: Annotated[int, typer.Option(min=1, help="Calibrations of each policy.")] = 20,
    clips: Annotated[int, typer.Option(min=5, help="Clips that each is made on.")] = 32,
    samples: Annotated[int, typer.Option(min=1, help="Held-out clips of each.")] = 60,
    tokens: Annotated[int, typer.Option(min=1, help="Answer tokens compared.")] = 1,
    max_kl: Annotated[float, typer.Option(min=0, help="The limit.")] = CalibrationPlan.max_kl,
    first: Annotated[int, typer.Option(min=1, help="Seed of the first calibration.")] = 1,
    known: Annotated[
        Path | None, typer.Option(help="JSONL of what was measured, to go on from.")
    ] = None,
) -> None:
    """Print each calibration as a line of JSON, and then how many promises were kept.

    Example: python -m fastav_plugin.lab.testbed.promises --calibrations 3 --known known.jsonl
    """
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        MODEL_PATH, dtype=torch.float32
    )
    prepare = SampleInputs(Qwen2_5OmniProcessor.from_pretrained(MODEL_PATH), own=False)
    plan = CalibrationPlan(samples=clips, tokens=tokens, max_kl=max_kl)
    seeds = range(first, first + calibrations)
    made: list[Promise] = []
    with Progress() as bar:
        task = bar.add_task("calibrations", total=calibrations * len(POLICIES))
        for promise in keep_promises(model, prepare, plan, seeds, samples, KnownFidelity(known)):
            made.append(promise)
            bar.print(json.dumps(asdict(promise)), soft_wrap=True)
            bar.advance(task)
    typer.echo(json.dumps(summarize(made)))


def _choose(
    model: Any, source: PromptSource, plan: CalibrationPlan, measure: KnownFidelity
) -> dict[str, Any] | None:
    """The fields that a calibration chooses; None where no setting passes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = calibrate(model, source, plan, Path(folder) / "found", measure=measure)
        except ConfigError as error:
            if "No setting" not in str(error):
                raise
            return None
        return found.settings


def _changed(plan: CalibrationPlan, fields: Mapping[str, Any]) -> CalibrationPlan:
    return CalibrationPlan(**{**vars(plan), **fields})


def _kept_inputs(source: PromptSource) -> PromptSource:
    """The source, its clips made once."""
    made: dict[int, dict[str, Any]] = {}

    def inputs(index: int) -> dict[str, Any]:
        if index not in made:
            made[index] = dict(source.inputs(index))
        return made[index]

    return PromptSource(source.media, inputs, source.digest, source.places)


def _digest(values: Mapping[str, Any]) -> str:
    """Identifies the inputs of a model, or the fields of a config."""
    state = hashlib.sha256()
    for name in sorted(values):
        value = values[name]
        content = (
            value.contiguous().cpu().numpy().tobytes()
            if isinstance(value, torch.Tensor)
            else json.dumps(value, sort_keys=True).encode()
        )
        state.update(name.encode() + content)
    return state.hexdigest()[:16]


if __name__ == "__main__":
    typer.run(run)
