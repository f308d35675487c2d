"""One dense run of each question, and one cut by each ranking that its attention gives."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig, check_integer, check_ratio
from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.arenas.arena import Arena, Question
from fastav_plugin.lab.arenas.measure import Dense, Outcome, answer_dense, answer_pruned
from fastav_plugin.lab.arenas.readings.attention_rows import AttentionRows, reading_rows
from fastav_plugin.lab.arenas.readings.rankings import (
    LAST,
    RANKINGS,
    GivenRanking,
    Reading,
    top_share,
)
from fastav_plugin.lab.arenas.setting import Sizes
from fastav_plugin.model_overrides import find_override
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality, TokenMap


@dataclass(frozen=True)
class Asked:
    """One question and its dense run.

    Attributes:
        question: what was asked.
        media: int64 [N], positions of the media in the prompt.
        evidence: bool [N], media tokens that hold the answer; all False where that is unknown.
        layers: attention to the media in each layer.
        dense: the answer.
    """

    question: Question
    media: Tensor
    evidence: Tensor
    layers: Sequence[AttentionRows]
    dense: Dense


@dataclass(frozen=True)
class Cut:
    """What one ranking made of one question.

    Attributes:
        outcome: the answer after the cut.
        kept: bool [N], media tokens that went on.
    """

    outcome: Outcome
    kept: Tensor


@dataclass
class Study:
    """What was found.

    Attributes:
        layer: entered with fewer tokens.
        keep: share of the media that goes on.
        asked: all questions.
        cuts: by name of the question and of the ranking, of questions that dense answers.
        as_engine: of each of these questions, whether the engine's own cut by attention kept the
            tokens that are best by the attention read here.
    """

    layer: int
    keep: float
    asked: list[Asked] = field(default_factory=list)
    cuts: dict[tuple[str, str], Cut] = field(default_factory=dict)
    as_engine: list[bool] = field(default_factory=list)

    @property
    def right(self) -> list[Asked]:
        """Questions that dense answers."""
        return [each for each in self.asked if each.dense.outcome.right]


def run_study(
    arena: Arena,
    questions: Sequence[Question],
    *,
    layer: int,
    keep: float,
    tick: Callable[[], None] = lambda: None,
) -> Study:
    """Ask all questions without pruning, and those that are answered after one cut each way.

    Args:
        arena: model and tokenizer; nothing is attached, as afterwards.
        questions: each a prompt of media and text after them; those about one passage in a row.
        layer: the layer entered with fewer tokens, at least 1.
        keep: share of the media that goes on, in (0, 1].
        tick: called after each question, dense or with all its cuts.

    Raises:
        ConfigError: layer or keep out of range, or a prompt without text after media.
    """
    sizes = Sizes(arena, questions)
    check_integer("layer", layer, minimum=1)
    check_ratio("keep", keep, "(0, 1]")
    if layer >= sizes.layers:
        raise ConfigError(f"`layer` must lie in [1, {sizes.layers - 1}], got {layer}.")
    study = Study(layer, keep)
    pairs = zip(questions, sizes.maps, strict=True)
    for _, passage in groupby(pairs, key=lambda pair: pair[0].passage):
        asked = []
        for question, tokens in passage:
            asked.append(_ask(arena, question, tokens))
            tick()
        study.asked += asked
        for each, reading in _readings(asked, layer):
            if each.dense.outcome.right:
                _cut(arena, study, each, reading)
            tick()
    return study


def _ask(arena: Arena, question: Question, tokens: TokenMap) -> Asked:
    head: Any = unwrap(arena.model)
    media = (tokens.modality[0] > int(Modality.TEXT)).nonzero().squeeze(1)
    if not len(media) or int(media[-1]) + 1 >= tokens.length:
        raise ConfigError(f"Question '{question.name}' has no text after media. Ask another one.")
    with reading_rows(find_override(head).parts(head), media.to(head.device)) as layers:
        dense = answer_dense(arena.model, arena.tokenizer, question)
    evidence = torch.isin(media, torch.tensor(list(question.evidence), dtype=torch.int64))
    return Asked(question, media, evidence, layers, dense)


def _readings(asked: Sequence[Asked], layer: int) -> Iterator[tuple[Asked, Reading]]:
    """Each question about one passage with what rankings may look at."""
    own = [torch.stack([rows.last for rows in each.layers]) for each in asked]
    alike = len({each.shape for each in own}) == 1
    for each, lasts in zip(asked, own, strict=True):
        shared = torch.stack(own).mean(dim=0) if alike else lasts
        seed = int(hashlib.sha256(each.question.name.encode()).hexdigest()[:15], 16)
        draw = torch.rand(len(each.media), generator=torch.Generator().manual_seed(seed))
        yield each, Reading(each.layers, layer, shared, each.evidence, draw)


def _cut(arena: Arena, study: Study, asked: Asked, reading: Reading) -> None:
    """Answer one question after a cut by each ranking; equal cuts are made once."""
    name, known = asked.question.name, dict[tuple[bool, ...], Outcome]()
    for label, ranking in RANKINGS.items():
        scores = ranking(reading).cpu()
        kept = top_share(scores, study.keep)
        key = tuple(kept.tolist())
        if label == LAST:
            known[key] = _engine_cut(arena, study, asked, kept)
        elif key not in known:
            whole = torch.full((asked.question.inputs["input_ids"].shape[1],), float("-inf"))
            whole[asked.media] = scores
            known[key] = _answer(arena, asked, GivenRanking(study.keep, study.layer, whole))[0]
        study.cuts[name, label] = Cut(known[key], kept)


def _engine_cut(arena: Arena, study: Study, asked: Asked, kept: Tensor) -> Outcome:
    ratios = {"visual_keep_ratio": study.keep, "audio_keep_ratio": study.keep}
    own = {"name": "low_attentive", "layer": study.layer, **ratios}
    outcome, report = _answer(arena, asked, own)
    positions = torch.tensor(report.kept_positions(study.layer))
    study.as_engine.append(torch.equal(torch.isin(asked.media, positions), kept))
    return outcome


def _answer(
    arena: Arena, asked: Asked, hook: Mapping[str, Any] | GivenRanking
) -> tuple[Outcome, PruningReport]:
    """Answer one question under one hook."""
    config = FastAVConfig(hooks=[hook])
    return answer_pruned(arena.model, arena.tokenizer, asked.question, config, asked.dense)
