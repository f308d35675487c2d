"""The bundled model answers questions about clips, dense and pruned."""

import json
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.analysis.comparison import Outcome, compare
from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.config import FastAVConfig
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.lab.bench.record import read_record
from fastav_plugin.lab.demo.clips import DemoClip
from fastav_plugin.lab.demo.own_clip import KNOWLEDGE
from fastav_plugin.lab.demo.picture import draw_outcome, make_stages
from fastav_plugin.lab.testbed.model import prepare_inputs
from fastav_plugin.media.inputs import Media
from fastav_plugin.media.sound import SAMPLE_RATE

NOTICE = (
    "A small model trained on a synthetic world: it shows what pruning does to answers, not "
    "what a 7B model would answer."
)
#: The question of each clip that is drawn, where it was asked.
DRAWN = "Which colour"


@dataclass(frozen=True)
class Asked:
    """A question and its answers.

    Attributes:
        clip: name of the file.
        question: what was asked.
        right: the right answer; None without ground truth.
        outcomes: dense first, then one per method.
    """

    clip: str
    question: str
    right: str | None
    outcomes: list[Outcome]

    def is_right(self, outcome: Outcome) -> bool:
        """Whether the first word is the right one or, without ground truth, that of dense."""
        return _word(outcome) == (self.right or _word(self.outcomes[0]))


@dataclass(frozen=True)
class Total:
    """One method over all questions: means, but for the medians of times.

    `right` counts right answers; without ground truth, those that agree with dense.
    """

    method: str
    right: int
    questions: int
    tokens_per_layer: list[float]
    macs: float
    flops_ratio: float
    prefill_seconds: float
    decoder_seconds: float
    kv_bytes: float


@dataclass(frozen=True)
class Demo:
    """What the demonstration found.

    Attributes:
        asked: every question with its answers.
        settings: of each method by name.
        cut: layer of FastAV's global cut.
        files: those written.
        notes: remarks on the model and the clips.
    """

    asked: list[Asked]
    settings: dict[str, dict[str, Any]]
    cut: int
    files: list[Path]
    notes: list[str]

    def totals(self) -> list[Total]:
        """One per method, dense first."""
        return [self._total(index) for index in range(len(self.asked[0].outcomes))]

    def _total(self, index: int) -> Total:
        own = [asked.outcomes[index] for asked in self.asked]
        layers = zip(*(outcome.tokens_per_layer for outcome in own), strict=True)
        dense = [asked.outcomes[0].macs for asked in self.asked]
        spent = [each.flops_ratio * whole for each, whole in zip(own, dense, strict=True)]
        return Total(
            method=own[0].method,
            right=sum(asked.is_right(asked.outcomes[index]) for asked in self.asked),
            questions=len(own),
            tokens_per_layer=[statistics.fmean(counts) for counts in layers],
            macs=statistics.fmean(outcome.macs for outcome in own),
            flops_ratio=sum(spent) / sum(dense),
            prefill_seconds=statistics.median(time for one in own for time in one.seconds),
            decoder_seconds=statistics.median(time for one in own for time in one.in_decoder),
            kv_bytes=statistics.fmean(outcome.kv_bytes for outcome in own),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        key = "is_right" if self.asked[0].right else "is_as_dense"
        return {
            "notes": self.notes,
            "global_cut_at_layer": self.cut,
            "settings": self.settings,
            "judged_by": "right answer" if self.asked[0].right else "dense answer",
            "totals": [vars(total) for total in self.totals()],
            "questions": [
                {
                    "clip": asked.clip,
                    "question": asked.question,
                    "right": asked.right,
                    "outcomes": [
                        {**outcome.to_dict(), key: asked.is_right(outcome)}
                        for outcome in asked.outcomes
                    ],
                }
                for asked in self.asked
            ],
            "at_7b_shape": read_record(),
            "files": [path.name for path in self.files],
        }


def steps(clips: Sequence[DemoClip], methods: int, repeats: int) -> int:
    """How often `run_demo` calls its `tick`."""
    asked = sum(len(clip.questions) for clip in clips)
    return asked * (1 + methods) * (1 + repeats) + len(clips)


def run_demo(
    model: Any,
    processor: Any,
    clips: Sequence[DemoClip],
    configs: Sequence[FastAVConfig],
    output: Path,
    *,
    repeats: int = 2,
    tick: Callable[[str], None] = lambda name: None,
) -> Demo:
    """Ask every question dense and under each method; write a report and a picture per clip.

    Args:
        model: the testbed's, or one of its architecture, in evaluation mode.
        processor: the model's.
        clips: what to ask about.
        configs: one per method; the last is drawn.
        output: folder for report.json and one picture per clip; made if missing.
        repeats: timed prefills of each method and question.
        tick: called after each step with its name.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    if configs:
        check_drawing()
    output.mkdir(parents=True, exist_ok=True)
    asked: list[Asked] = []
    files = []
    cut = 0
    for clip in clips:
        answered = []
        for question, right in clip.questions:
            inputs = prepare_inputs(processor, clip.frames, clip.waveform, question)
            outcomes = compare(
                model,
                inputs,
                configs,
                decode=lambda ids: str(processor.decode(ids, skip_special_tokens=True)),
                max_new_tokens=2,
                repeats=repeats,
                tick=lambda name, clip=clip: tick(f"{clip.name}, {name}"),  # type: ignore[misc]
            )
            answered.append(Asked(clip.name, question, right, outcomes))
        layers = len(answered[0].outcomes[0].tokens_per_layer)
        cut = next((c.global_layer for c in configs if c.global_layer is not None), layers // 2)
        asked += answered
        if configs:
            merge = processor.video_processor.merge_size
            time, height, width = inputs["video_grid_thw"][0].tolist()
            drawn = next((one for one in answered if one.question.startswith(DRAWN)), answered[0])
            files.append(output / f"{_file_name(clip.name)}.png")
            draw_outcome(
                files[-1],
                drawn.outcomes[-1],
                make_stages(drawn.outcomes[-1], cut, (time, height // merge, width // merge)),
                dense=drawn.outcomes[0],
                media=Media(
                    frames=clip.frames,
                    fps=len(clip.frames) * SAMPLE_RATE / len(clip.waveform),
                    waveform=clip.waveform,
                ),
                title=_title(drawn),
            )
        tick(f"{clip.name}, picture")
    notes = [*(KNOWLEDGE if asked[0].right is None else [NOTICE])]
    notes += [_describe(configs[-1])] if configs else []
    notes += [remark for clip in clips for remark in clip.remarks]
    for outcome in asked[-1].outcomes:
        if outcome.reason is not None:
            notes.append(f"{outcome.method}: nothing was cut, because {outcome.reason}.")
    report = output / "report.json"
    settings = {config.method: config.to_dict() for config in configs}
    demo = Demo(asked, settings, cut, [report, *files], notes)
    report.write_text(json.dumps(demo.to_dict(), indent=2) + "\n", encoding="utf-8")
    return demo


def _describe(config: FastAVConfig) -> str:
    """The settings in words."""
    rules = ", ".join(f"{kind} {rule}" for kind, rule in config.rules().items() if kind != "image")
    audio = 1.0 if config.audio_keep_ratio is None else config.audio_keep_ratio
    drop = DEFAULTS.drop_ratio if config.fine_drop_ratio is None else config.fine_drop_ratio
    return (
        f"Settings: FastAV's global cut keeps {rules or 'all'}; each fine cut drops "
        f"{100 * drop:.0f} %; DivPrune keeps "
        f"{100 * config.visual_keep_ratio:.0f} % of the video and {100 * audio:.0f} % of the audio."
    )


def _title(asked: Asked) -> str:
    """The question, and what the dense and the drawn answer are."""
    dense, pruned = asked.outcomes[0], asked.outcomes[-1]
    verdict = ""
    if asked.right is not None:
        verdict = " (right)" if asked.is_right(pruned) else f" (wrong: it is {asked.right})"
    return f"{asked.question}  Dense: {dense.answer}.  Pruned: {pruned.answer}{verdict}."


def _word(outcome: Outcome) -> str:
    return next(iter(outcome.answer.split()), "")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", Path(name).stem)
