"""Training batches: clips rendered in memory, as the processor would have prepared them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniProcessor

from fastav_plugin.lab.testbed.picture import cover, frame_times, render_frames
from fastav_plugin.lab.testbed.sound import presence, render_waveform
from fastav_plugin.lab.testbed.tasks import TASKS, TaskQuestion, training_questions
from fastav_plugin.lab.testbed.words import TURN_END, TURN_START, build_tokenizer, vocabulary
from fastav_plugin.lab.testbed.world import SHAPES, Clip, Difficulty, sample_clip
from fastav_plugin.media.video import FRAMES_PER_SECOND

IGNORED = -100
# The longest question has 5 words; then follow the end of the turn, the start of the next,
# its role and the answer.
QUESTION_ROWS = 9
_CELL = 28
_AUDIO_TOKENS_PER_SECOND = 25
_PATCH, _MERGE, _FRAMES_PER_GRID = 14, 2, 2


@dataclass(frozen=True)
class Batch:
    """Clips with questions, B clips of G time grids and A audio tokens, Q questions each.

    Attributes:
        pixels: float32 [B * G * 64, 1176], the patches of all frames.
        mel: float32 [B, 128, M], 100 frames per second.
        question_ids: int64 [B, Q, 9], right-padded questions with their answers.
        targets: int64 [B, Q, 9], the next token where it is the answer or the end of the turn
            after it, `IGNORED` elsewhere.
        tasks: int64 [B, Q], index into `TASKS`.
        shapes: int64 [B, G * 16], the shape in each cell, the number of shapes where there is
            none, `IGNORED` at the rim of a shape.
        colours: int64 [B, G * 16], the same for its colour.
        sounds: float32 [B, A, number of sounds], share of the token's time.
    """

    pixels: Tensor
    mel: Tensor
    question_ids: Tensor
    targets: Tensor
    tasks: Tensor
    shapes: Tensor
    colours: Tensor
    sounds: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move every tensor to a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def make_batch(
    processor: Qwen2_5OmniProcessor,
    difficulty: Difficulty,
    seeds: range,
    questions_per_clip: int,
    focus: tuple[str, ...] = (),
) -> Batch:
    """Render the clips of some seeds and ask about them, tasks in `focus` twice as often."""
    clips = [sample_clip(seed, difficulty) for seed in seeds]
    frames = np.stack([render_frames(c, frame_times(c, FRAMES_PER_SECOND)) for c in clips])
    waveforms = np.stack([render_waveform(clip) for clip in clips])
    encoded = [
        [
            _encode(question)
            for question in training_questions(
                clip, _questions_rng(clip), questions_per_clip, focus
            )
        ]
        for clip in clips
    ]
    ids, targets, tasks = (np.array([[q[i] for q in row] for row in encoded]) for i in range(3))
    cells = [_label_cells(clip) for clip in clips]
    return Batch(
        pixels=patchify(processor, torch.from_numpy(frames)),
        mel=log_mel(processor, torch.from_numpy(waveforms)),
        question_ids=torch.from_numpy(ids),
        targets=torch.from_numpy(targets),
        tasks=torch.from_numpy(tasks),
        shapes=torch.from_numpy(np.stack([shapes for shapes, _ in cells])),
        colours=torch.from_numpy(np.stack([colours for _, colours in cells])),
        sounds=torch.from_numpy(np.stack([presence(c, _AUDIO_TOKENS_PER_SECOND) for c in clips])),
    )


def patchify(processor: Qwen2_5OmniProcessor, frames: Tensor) -> Tensor:
    """Scale pixels and cut them into patches, as the video processor does.

    Args:
        processor: gives mean and deviation.
        frames: uint8 [B, T, H, W, 3], H and W multiples of 28.

    Returns:
        float32 [B * T / 2 * H / 14 * W / 14, 1176].
    """
    mean = torch.tensor(processor.video_processor.image_mean) * 255
    deviation = torch.tensor(processor.video_processor.image_std) * 255
    pixels = (frames.float() - mean) / deviation
    batch, count, height, width, channels = pixels.shape
    rows, columns = height // _CELL, width // _CELL
    grid = pixels.view(
        *(batch, count // _FRAMES_PER_GRID, _FRAMES_PER_GRID),
        *(rows, _MERGE, _PATCH, columns, _MERGE, _PATCH, channels),
    )
    patches = grid.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return patches.reshape(-1, channels * _FRAMES_PER_GRID * _PATCH * _PATCH)


def log_mel(processor: Qwen2_5OmniProcessor, waveforms: Tensor) -> Tensor:
    """Compute log-mel features, as the feature extractor does, without padding to 30 seconds.

    Args:
        processor: gives the filters.
        waveforms: float32 [B, n], n a multiple of the hop.

    Returns:
        float32 [B, 128, n / hop].
    """
    extractor = processor.feature_extractor
    # The extractor pads with silence before it transforms; one window of it is enough.
    padded = torch.nn.functional.pad(waveforms, (0, extractor.n_fft))
    window = torch.hann_window(extractor.n_fft)
    spectrum = torch.stft(
        padded, extractor.n_fft, extractor.hop_length, window=window, return_complex=True
    )
    power = spectrum[..., : waveforms.shape[1] // extractor.hop_length].abs() ** 2
    filters = torch.from_numpy(extractor.mel_filters).float()
    mel = torch.clamp(filters.T @ power, min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (mel + 4.0) / 4.0


def _questions_rng(clip: Clip) -> np.random.Generator:
    return np.random.default_rng((clip.seed, 5))


def _encode(question: TaskQuestion) -> tuple[list[int], list[int], int]:
    """Ids and targets of one question with its answer, padded, and the index of its task."""
    ids = [*_question_ids(question.text), vocabulary()[question.answer]]
    targets = [IGNORED] * (len(ids) - 2) + [ids[-1], vocabulary()[TURN_END]]
    padding = QUESTION_ROWS - len(ids)
    ids += [vocabulary()[TURN_END]] * padding
    return ids, targets + [IGNORED] * padding, TASKS.index(question.task)


@lru_cache(maxsize=1)
def _tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@lru_cache(maxsize=1024)
def _question_ids(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer()(f"{text}{TURN_END}{TURN_START}assistant").input_ids)


def _label_cells(clip: Clip) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Shape and colour of every cell of every time grid, in the order of the tokens."""
    times = frame_times(clip, FRAMES_PER_SECOND).reshape(-1, _FRAMES_PER_GRID)
    shares = np.array(
        [
            [np.mean([cover(thing, t, _CELL) for t in pair], axis=0) for thing in clip.things]
            for pair in times
        ]
    )  # [G, things, 4, 4]
    shares = shares.transpose(0, 2, 3, 1).reshape(-1, len(clip.things))  # [G * 16, things]
    winner, share = shares.argmax(axis=1), shares.max(axis=1)
    labels = []
    for names in ([t.shape for t in clip.things], [t.colour for t in clip.things]):
        label = np.where(share >= 0.3, np.array(names)[winner], len(SHAPES))
        labels.append(np.where((share > 0.05) & (share < 0.3), IGNORED, label).astype(np.int64))
    return labels[0], labels[1]
