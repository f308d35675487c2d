"""Prompts: what the user wrote, in the frame of the chat, with tags where the media go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError

#: One turn of the user, as both models were trained on it.
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% set clips = message['content'] | selectattr('type', 'equalto', 'video') | list %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>\n"
    "{% elif part['type'] == 'audio' and not clips %}<audio>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TAG = re.compile(r"(<video>|<image>|<audio>)")


@dataclass
class Row:
    """Tokens of one prompt.

    Attributes:
        ids: token ids.
        frames: video frame of each media token, counted over the prompt; -1 for text.
    """

    ids: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    def write(self, ids: Sequence[int]) -> None:
        """Append text."""
        self.ids += ids
        self.frames += [-1] * len(ids)

    def place(self, token_id: int, count: int, frame: int) -> None:
        """Append placeholders of one frame."""
        self.ids += [token_id] * count
        self.frames += [frame] * count

    @property
    def next_frame(self) -> int:
        """Number of the next frame of this prompt."""
        return max(self.frames, default=-1) + 1


def split_prompt(text: str, clips: int, sounds: int) -> list[str]:
    """Pieces of a prompt: text and tags by turns.

    Args:
        text: a prompt with the tags `<video>` (or `<image>`) and `<audio>`.
        clips: clips that were given for it.
        sounds: sounds that were given without a clip.

    Raises:
        ConfigError: there are more or fewer tags than media.
    """
    pieces = [piece for piece in _TAG.split(text) if piece]
    audio = pieces.count("<audio>")
    video = pieces.count("<video>") + pieces.count("<image>")
    if (video, audio) != (clips, sounds):
        raise ConfigError(
            f"The prompt has {video} <video> and {audio} <audio> tags, but {clips} clips and "
            f"{sounds} sounds were given. Give one for each tag, or a question without tags."
        )
    return pieces


def is_tag(piece: str) -> bool:
    """Whether a piece of a prompt stands for a medium."""
    return _TAG.fullmatch(piece) is not None


def pad_left(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `frame_ids`, int64 [B, T]."""
    longest = max(len(row.ids) for row in rows)

    def padded(lists: Sequence[list[Any]], value: int) -> Tensor:
        return torch.tensor([[value] * (longest - len(item)) + item for item in lists])

    return {
        "input_ids": padded([row.ids for row in rows], pad),
        "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        "frame_ids": padded([row.frames for row in rows], -1),
    }
