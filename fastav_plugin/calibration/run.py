"""Calibration: from the rollout of some prompts to the cheapest setting that stays near dense."""

import json
from pathlib import Path
from typing import Any

from fastav_plugin import __version__
from fastav_plugin.analysis.comparison import Tick
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.calibration.candidates import cut_layers, make_candidates, positional_rules
from fastav_plugin.calibration.checked_search import Answers, CheckedSearch
from fastav_plugin.calibration.data import PromptSource
from fastav_plugin.calibration.fidelity import Fidelity, FidelitySearch, Measure, measure_fidelity
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.calibration.rollout_profile import RolloutObserver, RolloutProfile
from fastav_plugin.calibration_file import (
    Calibration,
    read_calibration,
    read_tensors,
    write_calibration,
)
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.sample import move_inputs
from fastav_plugin.model_overrides import find_override
from fastav_plugin.pruning.model_identity import WeightSample, decoder_digest, decoder_sizes


def cut_range(model: Any, plan: CalibrationPlan) -> tuple[int, int]:
    """The lowest layer of a global cut, and the number of the model's layers.

    Raises:
        ConfigError: the plan asks for layers outside of them.
    """
    override = find_override(model)
    lowest = max(1, override.deepstack_layers(model.config))
    count = len(override.parts(model).layers)
    asked = plan.layers
    if asked is not None and not (asked and all(lowest <= layer < count for layer in asked)):
        raise ConfigError(
            f"`layers` must lie in [{lowest}, {count - 1}] for this model, got {list(asked)}."
        )
    return lowest, count


def partial_path(output: Path) -> Path:
    """Where `calibrate` keeps what it measured so far, until `output` is written."""
    return output.with_name(f"{output.name}.partial")


def steps(plan: CalibrationPlan, source: PromptSource) -> int:
    """How often `calibrate` calls its `tick`."""
    parts = plan.split(source)
    return len(parts.rules) + len(parts.fidelity) + len(parts.check)


def step_weights(plan: CalibrationPlan, source: PromptSource, settings: int) -> list[float]:
    """About how many prefills each step of `calibrate` takes, with so many settings to try.

    All are tried on the first prompts, then groups of them on the others, and one on those of the
    check.
    """
    parts = plan.split(source)
    number, first = len(parts.fidelity), FidelitySearch.SCREENING
    tried = [settings if plan.full or i < first else FidelitySearch.GROUP for i in range(number)]
    return [1.0] * len(parts.rules) + [float(n) for n in tried] + [1.0] * len(parts.check)


def calibrate(
    model: Any,
    source: PromptSource,
    plan: CalibrationPlan,
    output: Path,
    tick: Tick = lambda name: None,
    measure: Measure = measure_fidelity,
) -> Calibration:
    """Measure rollout and fidelity, and write the calibration file.

    After every prompt the results so far are written to `partial_path`, from which a killed run
    resumes; the final file is the same, byte for byte. `model` is in evaluation mode, and not to be
    tested with the questions of `source`. `tick` is called after each prompt, measured now or in
    an earlier run.

    Raises:
        ConfigError: no setting's KL stays within `max_kl`, or `<output>.partial` is of another
            calibration; also as of `cut_range`.
        UnsupportedError: a model whose attention cannot be read.
    """
    detach(model)
    run = _Run(model, source, plan, output)
    run.observe(tick)
    run.search(tick, measure)
    return run.finish()


class _Run:
    """One calibration in progress."""

    def __init__(
        self, model: Any, source: PromptSource, plan: CalibrationPlan, output: Path
    ) -> None:
        self._model, self._source = model, source
        self._plan, self._output = plan, output
        self._partial = partial_path(output)
        self._parts = parts = plan.split(source)
        self._lowest, self._num_layers = cut_range(model, plan)
        override = find_override(model)
        sizes = decoder_sizes(override.text_config(model.config))
        weights = WeightSample.of(override.parts(model).layers)
        self._weights = {"model.weights": weights.values}
        identity = {"digest": decoder_digest(sizes, weights), "weights": weights.to_facts()}
        facts = {
            "plugin_version": __version__,
            "model": {**sizes, **identity},
            "alpha": float(plan.alpha),
            "seed": plan.seed,
            "samples": {
                "rule": len(parts.rules),
                "fidelity": len(parts.fidelity),
                "check": len(parts.check),
                "disjoint": parts.disjoint,
                "data": source.digest,
            },
        }
        # As they are read back from the partial file.
        self._facts: dict[str, Any] = json.loads(json.dumps(facts))
        self._search_facts = {"method": plan.method, "searched": plan.searched()}
        self._profile = RolloutProfile()
        self._answers: Answers = []
        self._checks: dict[int, Answers] = {}
        if self._partial.exists():
            self._continue()

    def _continue(self) -> None:
        before = read_calibration(self._partial).facts
        other = [name for name, value in self._facts.items() if before.get(name) != value]
        if other:
            raise ConfigError(
                f"'{self._partial}' is of another calibration: {', '.join(other)} differ. Remove "
                "it, or give another `--output`."
            )
        sums = read_tensors(self._partial)
        del sums["model.weights"]
        self._profile = RolloutProfile(sums)
        # The rollout serves any search, answers only the same one.
        if before["searched"] == self._search_facts["searched"]:
            self._answers = _answers(before["answers"])
            self._checks = {int(i): _answers(found) for i, found in before["checks"].items()}

    def _save(self) -> None:
        so_far = {"candidates": [], "answers": self._answers, "checks": self._checks}
        facts = {**self._facts, **self._search_facts, **so_far}
        write_calibration(self._partial, facts, {**self._weights, **self._profile.sums})

    def observe(self, tick: Tick) -> None:
        """The rollout of every prompt of the first part."""
        for number, index in enumerate(self._parts.rules):
            if number >= self._profile.prompts:
                observer = RolloutObserver(self._plan.alpha)
                config = FastAVConfig(hooks=[observer], min_media_tokens=1)
                inputs = move_inputs(self._source.inputs(index), self._model)
                run_once(self._model, inputs, config)
                if observer.observed is None:
                    raise ConfigError(
                        f"The prompt of {self._source.name(index)} holds no media tokens. "
                        "Calibrate on prompts with media."
                    )
                self._profile.add(observer.observed)
                self._save()
            tick("rollout")

    def search(self, tick: Tick, measure: Measure) -> None:
        """Candidates on the prompts of the second part, the chosen one on the third."""
        plan, profile, before = self._plan, self._profile, (self._answers, self._checks)
        self._layers = cut_layers(plan, profile, self._lowest, self._num_layers)
        candidates = make_candidates(plan, profile, self._layers)
        self._found = CheckedSearch(candidates, self._source, self._parts, plan, *before, measure)
        self._found.run(self._model, self._save, tick)

    def finish(self) -> Calibration:
        """Choose, and write the file in place of the partial one."""
        plan, search, checked = self._plan, self._found.search, self._found.checked
        rows = [self._row(index) for index in range(len(search.candidates))]
        chosen, rejected = self._found.chosen, len(search.rejected)
        if chosen is None:
            best = min(rows, key=lambda row: (-int(row["prompts"]), row["kl_high"]))
            unsupported = search.unsupported()
            alone = (
                f", and {unsupported} that stayed within it were not taken because no stricter "
                "setting did"
                if unsupported
                else ""
            )
            raise ConfigError(
                "No setting passed, which takes a mean KL whose 95 % interval ends at "
                f"{plan.chosen_within:g} or below, with {100 * plan.margin:g} % of "
                f"{plan.max_kl:g} held back{alone}. "
                f"The nearest was layer {best['global_layer']}, rule {best['global_rule']}, drop "
                f"ratio {best['fine_drop_ratio']:g}, with {best['kl']:.4g} "
                f"({best['kl_low']:.4g} to {best['kl_high']:.4g}) over {best['prompts']} "
                f"samples at {100 * best['flops_ratio']:.1f} % of the dense FLOPs; {rejected} that "
                "stayed within it did not on the samples of the check. Allow more with "
                "`--max-kl`, take more `--samples`, or try other layers (`--layer`), thresholds "
                "or drop ratios; the rollout of the same samples is not measured again."
            )
        fields = search.candidates[chosen].fields()
        middle = min(self._layers, key=lambda layer: (abs(layer - self._num_layers // 2), layer))
        facts = {
            **self._facts,
            **self._search_facts,
            "profile": {
                "read": plan.read,
                "stable_from": self._profile.stable_from(plan.read, plan.stable),
                "change": self._profile.change(plan.read),
                "layer": middle,
                "rules": {
                    f"{threshold:g}": positional_rules(self._profile, plan.read, middle, threshold)
                    for threshold in plan.thresholds
                },
            },
            "candidates": rows,
            "chosen": rows[chosen],
            "check": None if checked is None else {**vars(checked), "rejected": rejected},
            "settings": {"method": plan.method, **plan.overrides, **fields},
        }
        write_calibration(self._output, facts, {**self._weights, **self._profile.results()})
        self._partial.unlink(missing_ok=True)
        return read_calibration(self._output)

    def _row(self, index: int) -> dict[str, Any]:
        candidate, tally = self._found.search.candidates[index], self._found.search.tally(index)
        facts = {**candidate.fields(), "origin": candidate.origin, **vars(tally)}
        return {**facts, "complete": tally.prompts == len(self._parts.fidelity)}


def _answers(found: list[dict[str, Any]]) -> Answers:
    """As they were before they were written as JSON."""
    return [{int(index): Fidelity(*values) for index, values in step.items()} for step in found]
