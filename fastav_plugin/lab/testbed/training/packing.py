"""One forward pass for many questions about each clip of a batch.

The media tokens are the cost of a prompt, so they are computed once per clip; every question then
follows as a block that sees the media and itself, at the positions it would have alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.model import decoder_of
from fastav_plugin.lab.testbed.training.batches import QUESTION_ROWS, Batch
from fastav_plugin.lab.testbed.words import NAMED_TOKENS, TURN_START, vocabulary
from fastav_plugin.upstream.attention import rename

_CELLS, _PATCHES_PER_SIDE = 16, 8
#: Attributes that hold the towers, of the thinker or of its head before transformers 5.21.
TOWERS = ("visual", "audio_tower")
_CHUNKED, _BLOCKS = "testbed_flash_chunks", "testbed_blocks"


@dataclass(frozen=True)
class Packed:
    """What a packed forward pass gives.

    Attributes:
        hidden: [B, Q, 9, hidden], the last layer's output at the questions.
        video: [B, V, hidden], the vision encoder's output.
        audio: [B, A, hidden], the audio encoder's output.
    """

    hidden: Tensor
    video: Tensor
    audio: Tensor


@dataclass(frozen=True)
class Layout:
    """Token ids and positions of a packed prompt.

    Attributes:
        ids: int64 [P], the prompt before the first question.
        positions: int64 [3, 1, P + Q * 9].
    """

    ids: Tensor
    positions: Tensor


def use_packed_attention(model: Qwen2_5OmniThinkerForConditionalGeneration) -> None:
    """Set the attention that `forward` needs; the model then serves for training only.

    The language model's attention knows the blocks of questions. The towers attend to all their
    chunks at once instead of in a loop: all chunks of a training batch have one length, and
    transformers hands the whole sequence to implementations with "flash" in their name only.
    """
    AttentionInterface.register(_CHUNKED, _attend_in_chunks)
    AttentionInterface.register(_BLOCKS, _attend_in_blocks)
    for name in TOWERS:
        rename(tower(model, name).config, _CHUNKED)
    rename(decoder_of(model).config, _BLOCKS)


def tower(model: nn.Module, name: str) -> Any:
    """The vision or the audio tower, one of TOWERS."""
    found = (module for path, module in model.named_modules() if path.endswith(name))
    return next(found)


def forward(model: Qwen2_5OmniThinkerForConditionalGeneration, batch: Batch) -> Packed:
    """Run towers and language model over a batch."""
    video, audio = encode_media(model, batch)
    clips, questions = batch.tasks.shape
    layout = _layout(model, video.shape[1], audio.shape[1], questions)
    device = batch.question_ids.device
    text = decoder_of(model)
    prefix = text.embed_tokens(layout.ids.to(device)).expand(clips, -1, -1)
    asked = text.embed_tokens(batch.question_ids).flatten(1, 2)
    after_video = 3 + video.shape[1]
    embeds = torch.cat(
        [prefix[:, :3], video, prefix[:, after_video : after_video + 2], audio, prefix[:, -1:]]
        + [asked],
        dim=1,
    )
    hidden = text(
        inputs_embeds=embeds,
        # The attention needs no mask; a dictionary keeps the model from making one.
        attention_mask={"full_attention": None},
        position_ids=layout.positions.to(device).expand(-1, clips, -1),
        use_cache=False,
        questions=questions,
    ).last_hidden_state
    rows = hidden[:, len(layout.ids) :].unflatten(1, (questions, QUESTION_ROWS))
    return Packed(rows, video, audio)


def encode_media(
    model: Qwen2_5OmniThinkerForConditionalGeneration, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Run both towers: [B, V, hidden] and [B, A, hidden]."""
    clips = len(batch.tasks)
    device = batch.pixels.device
    grids = len(batch.pixels) // clips // _PATCHES_PER_SIDE**2
    shape = [[grids, _PATCHES_PER_SIDE, _PATCHES_PER_SIDE]] * clips
    video = tower(model, "visual")(batch.pixels, grid_thw=torch.tensor(shape, device=device))
    frames = batch.mel.shape[-1]
    audio = tower(model, "audio_tower")(
        batch.mel.transpose(0, 1).flatten(1),
        feature_lens=torch.full((clips,), frames, device=device),
    )
    return (
        video.pooler_output.unflatten(0, (clips, -1)),
        audio.last_hidden_state.unflatten(0, (clips, -1)),
    )


@lru_cache(maxsize=16)
def _layout(
    model: Qwen2_5OmniThinkerForConditionalGeneration, video: int, audio: int, questions: int
) -> Layout:
    ids = vocabulary()
    named = {name: ids[token] for name, token in NAMED_TOKENS.items()}
    prefix = torch.tensor(
        [ids[TURN_START], ids["user"], named["vision_bos_token"]]
        + [named["video_token"]] * video
        + [named["vision_eos_token"], named["audio_bos_token"]]
        + [named["audio_token"]] * audio
        + [named["audio_eos_token"]]
    )
    alone = torch.cat([prefix, torch.full((QUESTION_ROWS,), ids["is"])])[None]
    count: Any = model.get_rope_index
    positions, _ = count(
        alone,
        video_grid_thw=torch.tensor(
            [[video // _CELLS, _PATCHES_PER_SIDE, _PATCHES_PER_SIDE]],
        ),
        attention_mask=torch.ones_like(alone),
        audio_seqlens=torch.tensor([audio * 4]),
        second_per_grids=torch.tensor([1.0]),
    )
    block = positions[..., -QUESTION_ROWS:]
    positions = torch.cat([positions[..., : len(prefix)]] + [block] * questions, dim=-1)
    return Layout(prefix, positions)


def _attend_in_chunks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    max_length_q: int,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within equal chunks: [1, heads, n * L, D] to [1, n * L, heads, D]."""
    query, key, value = (
        torch.unflatten(x[0], 1, (-1, max_length_q)).transpose(0, 1) for x in (query, key, value)
    )  # [n, heads, L, D]
    weights = (query @ key.transpose(-1, -2) * scaling).softmax(-1)
    mixed = weights.to(value.dtype) @ value
    return mixed.transpose(1, 2).flatten(0, 1)[None], None


def _attend_in_blocks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    questions: int,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend causally before the questions, and from each question to that and to itself.

    Args:
        module: unused, like the mask.
        query: [B, heads, P + Q * 9, D].
        key: [B, key heads, P + Q * 9, D].
        value: as `key`.
        attention_mask: None.
        scaling: of the scores.
        questions: Q.
        **kwargs: unused.

    Returns:
        [B, P + Q * 9, heads, D], and None in place of the weights.
    """
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    query, key, value = (x.to(value.dtype) for x in (query, key, value))
    start = query.shape[2] - questions * QUESTION_ROWS
    early_query, early_key, early_value = (x[:, :, :start] for x in (query, key, value))
    scores = early_query @ early_key.transpose(-1, -2)
    later = torch.ones(start, start, dtype=torch.bool, device=query.device).triu(1)
    weights = (scores * scaling).masked_fill(later, -1e4).softmax(-1).to(value.dtype)
    before = weights @ early_value
    asked, own_key, own_value = (x[:, :, start:] for x in (query, key, value))
    shared = asked @ key[:, :, :start].transpose(-1, -2)  # [B, heads, Q * 9, P]
    shape = (questions, QUESTION_ROWS)
    blocks = torch.unflatten(asked, 2, shape)
    own = blocks @ torch.unflatten(own_key, 2, shape).transpose(-1, -2)
    later = torch.ones(QUESTION_ROWS, QUESTION_ROWS, dtype=torch.bool, device=own.device).triu(1)
    own = own.masked_fill(later, -1e4).flatten(2, 3)  # [B, heads, Q * 9, 9]
    weights = (torch.cat([shared, own], dim=-1) * scaling).softmax(-1).to(value.dtype)
    mixed = weights[..., :start] @ value[:, :, :start]
    blocks = torch.unflatten(weights[..., start:], 2, shape)
    own = blocks @ torch.unflatten(own_value, 2, shape)
    return torch.cat([before, mixed + own.flatten(2, 3)], dim=2).transpose(1, 2), None
