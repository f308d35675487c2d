"""A whole calibration, against settings measured by hand; killed, and gone on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig
from fastav_plugin.calibration.data import draw
from fastav_plugin.calibration.fidelity import Fidelity, measure_fidelity
from fastav_plugin.calibration.run import calibrate, steps
from fastav_plugin.calibration_file import Calibration, read_calibration, read_tensors
from fastav_plugin.evaluation.answers import divergence
from tests.calibration.prompts import NoisySource, small_plan
from tests.support.cache_names import passing

#: What a calibration finds.
FIELDS = ("global_layer", "global_rule", "fine_drop_ratio")


def first_token(model: Any, inputs: Any, config: FastAVConfig | None) -> tuple[Any, Any]:
    cache = None if config is None else FastAVCache(config)
    output = model.generate(
        **inputs,
        **passing(cache),
        max_new_tokens=1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.logits[0][0], cache


def test_the_file_names_what_it_was_made_from(calibration: Calibration) -> None:
    facts = calibration.facts
    assert facts["model"]["model_type"] == "qwen2_5_omni_text"
    assert facts["model"]["num_hidden_layers"] == 8
    assert len(facts["model"]["digest"]) == 64
    assert (facts["method"], facts["alpha"]) == ("fastav", 0.5)
    counts = {"rule": 2, "fidelity": 2, "check": 0, "disjoint": True}
    assert facts["samples"] == {**counts, "data": "noise 4"}
    assert facts["check"] is None
    assert facts["plugin_version"]
    tensors = read_tensors(calibration.path)
    for read in ("last_row", "column_sums"):
        assert tensors[f"profile.{read}.modality"].sum(dim=1).tolist() == pytest.approx([1.0] * 7)
        assert tensors[f"curve.{read}.top"].shape == (7, 20)
    assert not Path(f"{calibration.path}.partial").exists()


def test_every_candidate_is_what_generate_gives(
    calibration: Calibration, model: Any, processor: Any
) -> None:
    source = NoisySource(processor)
    fidelity = draw(source, 4, 0).fidelity
    rows = calibration.facts["candidates"]
    assert {row["global_layer"] for row in rows} == {3, 5}
    for row in rows[:: len(rows) // 4]:
        fields = {k: row[k] for k in FIELDS}
        found = []
        for index in fidelity:
            inputs = source.inputs(index)
            dense, _ = first_token(model, inputs, None)
            pruned, cache = first_token(model, inputs, FastAVConfig(min_media_tokens=1, **fields))
            same = float(dense.argmax() == pruned.argmax())
            found.append((divergence(dense, pruned), same, cache.report().flops_ratio))
        means = [sum(column) / len(found) for column in zip(*found, strict=True)]
        measured = [row[name] for name in ("kl", "agreement", "flops_ratio")]
        assert measured == pytest.approx(means, rel=1e-4, abs=1e-7)
        assert row["prompts"] == len(fidelity)


def test_the_cheapest_within_the_limit_is_chosen(
    calibration: Calibration, model: Any, processor: Any, tmp_path: Path
) -> None:
    rows = calibration.facts["candidates"]
    assert calibration.facts["chosen"]["flops_ratio"] == min(row["flops_ratio"] for row in rows)
    kls = sorted({row["kl_high"] for row in rows})
    limit = (kls[len(kls) // 2 - 1] + kls[len(kls) // 2]) / 2
    passed = [row for row in rows if row["kl_high"] <= limit]
    best = min(passed, key=lambda row: (row["flops_ratio"], row["kl"]))
    plan = small_plan(max_kl=limit)
    found = calibrate(model, NoisySource(processor), plan, tmp_path / "half.safetensors")
    assert found.settings == {
        "method": "fastav",
        "min_media_tokens": 1,
        **{name: best[name] for name in FIELDS},
    }
    given_up = [row for row in found.facts["candidates"] if not row["complete"]]
    assert given_up
    whole = {row["origin"] + str(row["global_layer"]): row["kl_high"] for row in rows}
    assert all(whole[row["origin"] + str(row["global_layer"])] > limit for row in given_up)


class Killed(BaseException):
    """What no handler in between may catch."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_was_killed_goes_on(
    calibration: Calibration, model: Any, processor: Any, tmp_path: Path, after: int
) -> None:
    source, path = NoisySource(processor), tmp_path / "resumed.safetensors"
    ticks = 0

    def tick(done: str) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == after:
            raise Killed

    with pytest.raises(Killed):
        calibrate(model, source, small_plan(), path, tick)
    assert not path.exists()
    done: list[str] = []
    calibrate(model, source, small_plan(), path, done.append)
    assert len(done) == steps(small_plan(), source) == 4
    assert sorted(source.asked) == list(range(4))
    assert path.read_bytes() == Path(calibration.path).read_bytes()


def test_another_search_keeps_the_rollout(model: Any, processor: Any, tmp_path: Path) -> None:
    source, path = NoisySource(processor), tmp_path / "strict.safetensors"
    with pytest.raises(ConfigError, match=r"No setting .* interval ends at 0 or .*--max-kl"):
        calibrate(model, source, small_plan(max_kl=0.0), path)
    parts = draw(source, 4, 0)
    with pytest.raises(ConfigError, match="not finished"):
        FastAVConfig(calibration=f"{path}.partial")
    source.asked.clear()
    calibrate(model, source, small_plan(), path)
    assert source.asked == parts.fidelity
    assert not set(parts.fidelity) & set(parts.rules)


def test_a_partial_file_of_another_calibration(model: Any, processor: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(Killed):
        calibrate(model, NoisySource(processor), small_plan(), path, _kill)
    for plan, count in ((small_plan(alpha=0.3), 4), (small_plan(), 3)):
        with pytest.raises(ConfigError, match=r"partial' is of another calibration: .* differ"):
            calibrate(model, NoisySource(processor, count), plan, path)


def _kill(_: str) -> None:
    raise Killed


def test_several_tokens_follow_the_dense_answer(model: Any, processor: Any, tmp_path: Path) -> None:
    source = NoisySource(processor, 2)
    plan = small_plan(tokens=3, layers=(4,))
    found = calibrate(model, source, plan, tmp_path / "long.safetensors")
    assert found.facts["samples"]["disjoint"] is False
    row = found.facts["chosen"]
    config = FastAVConfig(calibration=found.path)
    kls = []
    for index in range(2):
        inputs = source.inputs(index)
        dense = model.generate(
            **inputs, max_new_tokens=3, output_logits=True, return_dict_in_generate=True
        )
        ids = dense.sequences[:, inputs["input_ids"].shape[1] :]
        cache = FastAVCache(config)
        steps_of = [model(**inputs, **passing(cache)).logits[0, -1]]
        for number in range(ids.shape[1] - 1):
            more = model(input_ids=ids[:, number : number + 1], **passing(cache))
            steps_of.append(more.logits[0, -1])
        pairs = zip(dense.logits, steps_of, strict=True)
        kls.append(torch.tensor([divergence(d[0], p.detach()) for d, p in pairs]).mean().item())
    assert row["kl"] == pytest.approx(sum(kls) / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "divprune"}, "no global cut"),
        ({"alpha": 0.0}, "`alpha` must lie in"),
        ({"thresholds": (0.5, 1.5)}, "`thresholds` must lie in"),
        ({"drop_ratios": (1.0,)}, "`fine_drop_ratio` must lie in"),
        ({"drop_ratios": ()}, "at least one drop ratio"),
        ({"read": "rows"}, "last_row, column_sums"),
        ({"samples": 0}, "`samples` must be at least 1"),
        ({"overrides": {"global_layer": 3}}, "global_layer cannot be given"),
    ],
)
def test_plans_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_plan(**changes)


def test_layers_that_the_model_does_not_have(model: Any, processor: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`layers` must lie in \[1, 7\]"):
        calibrate(model, NoisySource(processor, 2), small_plan(layers=(8,)), tmp_path / "x")


def test_the_default_layers_lie_around_the_middle(
    model: Any, processor: Any, tmp_path: Path
) -> None:
    plan = small_plan(layers=None, stable=1.0)
    found = calibrate(model, NoisySource(processor, 2), plan, tmp_path / "x.safetensors")
    assert {row["global_layer"] for row in found.facts["candidates"]} == {1, 3, 4, 5, 6}
    assert found.facts["profile"]["stable_from"] == 1


def test_samples_about_one_clip_stay_together(processor: Any) -> None:
    for count in range(1, 20):
        source = NoisySource(processor, count)
        found = draw(source, count, 3)
        assert found.disjoint == (count > 2)
        parts = [found.rules, found.fidelity, found.check]
        assert bool(found.check) == (count > 4)
        if not found.disjoint:
            assert parts == [list(range(count)), list(range(count)), []]
            continue
        assert sorted(sum(parts, [])) == list(range(count))
        media = [{source.media[index] for index in part} for part in parts]
        assert sum(map(len, media)) == len(set().union(*media))
        sizes = [len(part) for part in parts if part]
        assert max(sizes) - min(sizes) <= 2
    few = draw(NoisySource(processor, 20), 5, 3)
    assert few == draw(NoisySource(processor, 20), 5, 3) != draw(NoisySource(processor, 20), 5, 4)
    assert len(few.rules) + len(few.fidelity) + len(few.check) == 5


def test_what_is_read_back_is_what_was_written(calibration: Calibration) -> None:
    assert dataclasses.asdict(read_calibration(calibration.path)) == dataclasses.asdict(calibration)


def test_what_is_chosen_is_measured_on_samples_of_no_part(
    model: Any, processor: Any, tmp_path: Path
) -> None:
    source = NoisySource(processor, 8)
    plan = small_plan(samples=8)
    ticks: list[str] = []
    found = calibrate(model, source, plan, tmp_path / "checked.safetensors", ticks.append)
    parts = draw(source, 8, 0)
    assert source.asked == parts.rules + parts.fidelity + parts.check
    assert len(ticks) == steps(plan, source) == 8
    config = FastAVConfig(calibration=found.path)
    kls = []
    for index in parts.check:
        dense, _ = first_token(model, source.inputs(index), None)
        pruned, _ = first_token(model, source.inputs(index), config)
        kls.append(divergence(dense, pruned))
    check = found.facts["check"]
    assert check["kl"] == pytest.approx(sum(kls) / len(kls), rel=1e-4)
    assert check["kl_low"] <= check["kl"] <= check["kl_high"]
    assert (check["prompts"], check["rejected"]) == (len(parts.check), 0)
    told = found.describe(config.to_dict())
    assert f"mean KL of {check['kl']:.4g}" in told
    assert f"fewer than about {100 * min(1, 3 / len(kls)):.0f} % of prompts" in told
    assert f"on the {len(parts.check)} samples of the check, which are not" in told


def test_with_a_margin_the_check_is_larger_and_by_the_interval(
    model: Any, processor: Any, tmp_path: Path
) -> None:
    source = NoisySource(processor, 8)
    plan = small_plan(samples=8, margin=0.5)
    parts, whole = draw(source, 8, 0), plan.split(source)
    assert whole.check == sorted(parts.rules + parts.check)
    assert (whole.rules, whole.fidelity) == (parts.rules, parts.fidelity)
    assert plan.chosen_within == 5

    def measure(
        model: Any, inputs: Any, configs: Sequence[FastAVConfig], tokens: int
    ) -> list[Fidelity]:
        found = measure_fidelity(model, inputs, configs, tokens)
        # A mean within the limit, with one prompt far above it.
        kl = 40.0 if source.asked[-1] == whole.check[0] else 0.0
        return [one._replace(kl=kl) for one in found]

    with pytest.raises(
        ConfigError, match=r"ends at 5 or below, with 50 % of 10 held back[,.] .* did"
    ):
        calibrate(model, source, plan, tmp_path / "wide.safetensors", measure=measure)
    mean = small_plan(samples=8, margin=0)
    found = calibrate(model, source, mean, tmp_path / "mean.safetensors", measure=measure)
    assert found.facts["check"]["kl"] <= 10


@pytest.mark.parametrize("after", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_if_a_setting_fails_the_check_the_next_one_is_tried(
    model: Any, processor: Any, tmp_path: Path, after: int
) -> None:
    """The two cheapest settings are near dense on the samples of the choice alone."""
    source = NoisySource(processor, 8)
    check = draw(source, 8, 0).check
    failed: list[dict[str, Any]] = []
    measured, killed_after = 0, after

    def measure(
        model: Any, inputs: Any, configs: Sequence[FastAVConfig], tokens: int
    ) -> list[Fidelity]:
        nonlocal measured
        if measured == killed_after:
            raise Killed
        measured += 1
        found = measure_fidelity(model, inputs, configs, tokens)
        if source.asked[-1] in check:
            (config,) = configs
            fields = {name: config.to_dict()[name] for name in FIELDS}
            if fields not in failed and len(failed) < 2:
                failed.append(fields)
            if fields in failed:
                return [found[0]._replace(kl=99.0)]
        return found

    plan, path = small_plan(samples=8), tmp_path / "next.safetensors"
    with pytest.raises(Killed):
        calibrate(model, source, plan, path, measure=measure)
    killed_after = 10_000
    ticks: list[str] = []
    found = calibrate(model, source, plan, path, ticks.append, measure)
    assert len(ticks) == 8
    rows = sorted(found.facts["candidates"], key=lambda row: (row["flops_ratio"], row["kl"]))
    cheapest = [{name: row[name] for name in FIELDS} for row in rows[:3]]
    assert failed == cheapest[:2]
    assert {name: found.settings[name] for name in FIELDS} == cheapest[2]
    assert found.facts["check"]["rejected"] == 2
    assert found.facts["check"]["kl"] < 10
    assert "2 cheaper settings failed there" in found.describe(found.settings)
    whole = calibrate(model, source, plan, tmp_path / "whole.safetensors", measure=measure)
    assert path.read_bytes() == Path(whole.path).read_bytes()


def test_if_nothing_passes_the_check(model: Any, processor: Any, tmp_path: Path) -> None:
    source = NoisySource(processor, 6)
    check = draw(source, 6, 0).check

    def measure(
        model: Any, inputs: Any, configs: Sequence[FastAVConfig], tokens: int
    ) -> list[Fidelity]:
        found = measure_fidelity(model, inputs, configs, tokens)
        return [one._replace(kl=99.0) for one in found] if source.asked[-1] in check else found

    plan, path = small_plan(samples=6, layers=(4,)), tmp_path / "none.safetensors"
    with pytest.raises(ConfigError, match=r"did not on the samples of the check\."):
        calibrate(model, source, plan, path, measure=measure)
