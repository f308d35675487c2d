"""Prefill of a whole model with random weights on a real clip: encoders, decoder, peak memory."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SiglipImageProcessor

from fastav_plugin.analysis.comparison import Outcome, compare
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.lab.bench.clock import forget_peak_memory, machine, peak_memory
from fastav_plugin.lab.bench.shapes import DTYPES
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from fastav_plugin.lab.testbed.words import build_tokenizer
from fastav_plugin.model_overrides import videollama2
from fastav_plugin.upstream.models import from_config

#: What differs from the published model in each shape.
CLIP_SHAPES: dict[str, dict[str, Any]] = {
    "videollama2-av": {},
    "videollama2-av-tiny": {
        "text_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 512,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 384,
            "patch_size": 14,
        },
        "audio_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "connector_depth": 1,
    },
}
#: What the FastAV paper reports for VideoLLaMA2, on a GPU and with the trained weights.
PAPER = {
    "flops_ratio": 0.56,
    "dense_seconds": 0.43,
    "fastav_seconds": 0.32,
    "dense_memory_gb": 22,
    "fastav_memory_gb": 19,
}
_SYSTEM_PROMPT = 14


@dataclass(frozen=True)
class ClipPlan:
    """What to measure.

    Attributes:
        shape: a name of `CLIP_SHAPES`.
        methods: methods to measure against dense.
        overrides: keywords of `FastAVConfig.for_model`.
        clip: a file with pictures and sound; None for one that ships with the package.
        frames: frames taken of it.
        text: text tokens of the prompt.
        dtype: a name of `DTYPES`.
        repeats: measured prefills of each method, after a warm-up.
    """

    shape: str
    methods: Sequence[str] = ("fastav",)
    overrides: dict[str, Any] = field(default_factory=dict)
    clip: Path | None = None
    frames: int = 8
    text: int = 50
    dtype: str = "bfloat16"
    repeats: int = 1

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is built.

        Raises:
            ConfigError: unknown shape or dtype, too little text, or a wrong setting.
        """
        for name, value, known in (
            ("shape", self.shape, CLIP_SHAPES),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        if self.text < _SYSTEM_PROMPT + 1:
            raise ConfigError(f"`text` must be at least 15 tokens, got {self.text}.")
        config = make_clip_config(self.shape)
        for method in self.methods:
            FastAVConfig.for_model(config, method=method, **self.overrides)

    @property
    def steps(self) -> int:
        """How often `run_clip_bench` calls its `tick`."""
        return 3 + (1 + len(self.methods)) * (1 + self.repeats)


@dataclass
class ClipBench:
    """What was measured.

    Attributes:
        outcomes: dense first; their times are of the decoder alone.
        encode_seconds: time in the encoders and connectors, the same for every method.
        media: tokens of each modality.
        peak_bytes: most memory the process held during each method's prefills, weights
            included; empty if the platform does not report it.
        parameters: number of weights.
    """

    outcomes: list[Outcome]
    encode_seconds: float
    media: dict[str, int]
    peak_bytes: dict[str, int]
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        dense = self.outcomes[0].prefill_seconds
        cases = []
        for outcome in self.outcomes:
            with_towers = outcome.prefill_seconds + self.encode_seconds
            cases.append(
                outcome.to_dict()
                | {
                    "time_ratio": outcome.prefill_seconds / dense,
                    "time_ratio_with_towers": with_towers / (dense + self.encode_seconds),
                    "peak_bytes": self.peak_bytes.get(outcome.method),
                }
            )
        return {
            "parameters": self.parameters,
            "encode_seconds": self.encode_seconds,
            "media_tokens": self.media,
            "cases": cases,
            "paper": PAPER,
        }


def make_clip_config(shape: str) -> Any:
    """The configuration of a shape."""
    return videollama2.VideoLlama2Config(**CLIP_SHAPES[shape])


def make_clip_model(shape: str, dtype: str = "bfloat16", seed: int = 0) -> Any:
    """A model with random weights, created in its dtype without a larger copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = videollama2.VideoLlama2ForConditionalGeneration
        model = from_config(kind, make_clip_config(shape), dtype=DTYPES[dtype])
    model.generation_config.eos_token_id = None
    nn.Module.eval(model)
    return model


def run_clip_bench(plan: ClipPlan, tick: Callable[[str], None] = lambda name: None) -> ClipBench:
    """Encode a clip once, then measure the prefills of generate(), the methods taking turns.

    Args:
        plan: what to measure.
        tick: called after each step with its name.
    """
    plan.check()
    media, kinds = _read_clip(plan)
    tick("clip read")
    model = make_clip_model(plan.shape, plan.dtype)
    tick("model")
    start = time.perf_counter()
    with torch.inference_mode():
        encoded = {
            "video": model.get_video_features(media["pixel_values_videos"].to(model.dtype)),
            "audio": model.get_audio_features(media["input_features"].to(model.dtype)),
        }
    encode_seconds = time.perf_counter() - start
    tick("towers")
    ids = _prompt(kinds, plan.text, model.config.text_config.vocab_size)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    peaks: dict[str, int] = {}
    forget_peak_memory()

    def note(method: str) -> None:
        peak = peak_memory()
        if peak is not None:
            peaks[method] = max(peak, peaks.get(method, 0))
        forget_peak_memory()
        tick(method)

    outcomes = compare(
        model,
        inputs | {"mm_encoder_outputs": encoded},
        [FastAVConfig.for_model(model, method=name, **plan.overrides) for name in plan.methods],
        decode=lambda ids: str(ids.tolist()),
        max_new_tokens=1,
        repeats=plan.repeats,
        tick=note,
    )
    names = {kind: int((kinds == index).sum()) for index, kind in enumerate(("video", "audio"))}
    return ClipBench(outcomes, encode_seconds, names, peaks, model.num_parameters())


def describe_clip(plan: ClipPlan, found: ClipBench) -> dict[str, Any]:
    """Everything about a run as plain JSON data."""
    settings = dataclasses.asdict(plan) | {"clip": str(_clip_of(plan)), "batch": 1}
    return settings | {"machine": machine()} | found.to_dict()


def _clip_of(plan: ClipPlan) -> Path:
    return plan.clip or CLIPS_PATH / "matching.mp4"


def _read_clip(plan: ClipPlan) -> tuple[Any, Tensor]:
    """Media of the clip, and 0 or 1 for each video or audio token in their order."""
    config = make_clip_config(plan.shape)
    size = config.vision_config.image_size
    processor = videollama2.VideoLlama2Processor(
        SiglipImageProcessor(size={"height": size, "width": size}),
        videollama2.BeatsFeatureExtractor(),
        build_tokenizer(),
        patches_per_side=config.patches_per_side,
        image_token_id=config.image_token_id,
        video_token_id=config.video_token_id,
        audio_token_id=config.audio_token_id,
    )
    # The words do not matter: `_prompt` draws as many as asked for.
    inputs = processor(text="yes", video=_clip_of(plan), num_frames=plan.frames)
    if "input_features" not in inputs:
        raise ConfigError(f"'{_clip_of(plan)}' has no sound. Give a clip with pictures and sound.")
    ids = inputs["input_ids"][0]
    media = ids[(ids == config.video_token_id) | (ids == config.audio_token_id)]
    return inputs, (media == config.audio_token_id).long()


def _prompt(kinds: Tensor, text: int, vocabulary: int) -> Tensor:
    """System prompt, media, question: int64 [1, T], random words."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, vocabulary - 3, (text,), generator=generator)
    media = torch.where(kinds == 0, vocabulary - 2, vocabulary - 1)
    return torch.cat([words[:_SYSTEM_PROMPT], media, words[_SYSTEM_PROMPT:]])[None]
