"""The testbed model: a small Qwen2.5-Omni thinker and its processor, built from code."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import (
    BatchFeature,
    GenerationConfig,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.lab.testbed.words import (
    CHAT_TEMPLATE,
    NAMED_TOKENS,
    PAD,
    TURN_END,
    build_tokenizer,
    vocabulary,
)
from fastav_plugin.lab.testbed.world import CLIP_SECONDS, FRAME_SIZE
from fastav_plugin.media.inputs import Media, prepare_prompt
from fastav_plugin.media.sound import SAMPLE_RATE
from fastav_plugin.media.video import FRAMES_PER_SECOND

MODEL_PATH = Path(__file__).parent / "model"
_HIDDEN, _HEADS, _KEY_HEADS, _HEAD_DIM, _LAYERS = 192, 6, 2, 32, 8
# Rotary pairs from this one on turn by less than half a radian over a whole prompt.
_SLOW_PAIR = 8
_MATCH_SCALE, _COPY_SCALE = 1.4, 0.25


def build_processor() -> Qwen2_5OmniProcessor:
    """Build the processor: 112 x 112 pictures, two per second, 16 kHz sound, the word tokenizer.

    A checkpoint of it gives what the model was trained with to whoever loads it with transformers
    alone: a clip of 8 s is 128 video tokens.
    """
    # Every picture is resized to about the size that the model was trained on.
    size = {"shortest_edge": FRAME_SIZE**2, "longest_edge": FRAME_SIZE**2}
    tokenizer = build_tokenizer()
    # The processor class has a video size of its own, which goes before that of the video
    # processor. Of a checkpoint's settings only those of its tokenizer go before the class's
    # (ProcessorMixin._merge_kwargs, fifth rule).
    tokenizer.init_kwargs["size"] = dict(size)
    return Qwen2_5OmniProcessor(  # type: ignore[no-untyped-call]
        image_processor=Qwen2VLImageProcessor(size=dict(size)),
        video_processor=Qwen2VLVideoProcessor(
            size=dict(size),
            cap_pixels_per_frame=False,
            do_sample_frames=True,
            fps=float(FRAMES_PER_SECOND),
        ),
        feature_extractor=WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
            feature_size=128,
            sampling_rate=SAMPLE_RATE,
            chunk_length=CLIP_SECONDS,
            return_attention_mask=True,
        ),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_config() -> Qwen2_5OmniThinkerConfig:
    """Build the configuration of the small thinker."""
    ids = vocabulary()
    text = {
        "vocab_size": len(ids),
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_HEADS,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000.0,
            "mrope_section": [4, 6, 6],
        },
        "pad_token_id": ids[PAD],
        "eos_token_id": ids[TURN_END],
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 3,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "out_hidden_size": _HIDDEN,
        "fullatt_block_indexes": [2],
    }
    audio = {
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 256,
        "d_model": 96,
        "output_dim": _HIDDEN,
    }
    # Keyword arguments that the class does not declare are kept as attributes.
    undeclared: dict[str, Any] = {
        "vision_start_token_id": ids[NAMED_TOKENS["vision_bos_token"]],
        "vision_end_token_id": ids[NAMED_TOKENS["vision_eos_token"]],
        "pad_token_id": ids[PAD],
        "eos_token_id": ids[TURN_END],
    }
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        audio_token_index=ids[NAMED_TOKENS["audio_token"]],
        image_token_index=ids[NAMED_TOKENS["image_token"]],
        video_token_index=ids[NAMED_TOKENS["video_token"]],
        audio_start_token_id=ids[NAMED_TOKENS["audio_bos_token"]],
        audio_end_token_id=ids[NAMED_TOKENS["audio_eos_token"]],
        user_token_id=ids["user"],
        **undeclared,
    )


def build_model(seed: int = 0) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """Build the small thinker with random weights, float32, in evaluation mode.

    Args:
        seed: of the weights; the global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5OmniThinkerForConditionalGeneration(build_config())
        _initialise(model)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=vocabulary()[TURN_END],
        pad_token_id=vocabulary()[PAD],
        do_sample=False,
        max_new_tokens=4,
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def check_processor(processor: Any) -> None:
    """Refuse a processor that the testbed's prompts are not made for.

    Raises:
        UnsupportedError: it is none of Qwen2.5-Omni.
    """
    if not isinstance(processor, Qwen2_5OmniProcessor):
        raise UnsupportedError(
            "The testbed's prompts are made for a Qwen2_5OmniProcessor, got "
            f"{type(processor).__name__}. Give a Qwen2.5-Omni checkpoint."
        )


def prepare_inputs(
    processor: Qwen2_5OmniProcessor,
    frames: npt.NDArray[np.uint8],
    waveform: npt.NDArray[np.float32],
    question: str,
) -> BatchFeature:
    """Make the inputs of `generate` for one question about one clip.

    Args:
        processor: from `build_processor` or loaded.
        frames: uint8 [T, H, W, 3], RGB, two per second.
        waveform: float32 [n] at 16 kHz; at most 8 seconds are used.
        question: in the vocabulary of `tasks`; each unknown word becomes the unknown token.

    Returns:
        Tensors of batch size 1, pictures before sound before the question.

    Raises:
        UnsupportedError: another processor.
    """
    check_processor(processor)
    media = Media(frames=frames, waveform=waveform)
    return BatchFeature(prepare_prompt(processor, media, question))


def decoder_of(model: Any) -> Any:
    """The language model of a thinker, which transformers 5.21 moved by one level."""
    return model.get_decoder()


@torch.no_grad()
def _initialise(model: Qwen2_5OmniThinkerForConditionalGeneration) -> None:
    """Scale every matrix by its fan-in and let attention find and copy what a word names."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    text = decoder_of(model)
    nn.init.normal_(text.embed_tokens.weight, std=0.5)
    # A token that carries a word's embedding names the word.
    model.lm_head.weight.copy_(text.embed_tokens.weight * (2 / math.sqrt(_HIDDEN)))
    for layer in text.layers:
        layer.self_attn.o_proj.weight.mul_(1 / math.sqrt(2 * _LAYERS))
        layer.mlp.down_proj.weight.mul_(1 / math.sqrt(2 * _LAYERS))
        for key_head in range(_KEY_HEADS):
            _match_and_copy(layer.self_attn, key_head)


def _match_and_copy(attention: Any, key_head: int) -> None:
    """Let all but one of a key head's query heads attend to equal content and copy it.

    Small models spend most of their training on learning to look where a question's word
    reappears among the media. Queries and keys that start as the same projection, in rotary pairs
    that hardly turn, look there from the first step; an output that starts as the transpose of
    the values carry the other half of what is there, such as its colour.
    """
    slow = [i for i in range(_HEAD_DIM) if i % (_HEAD_DIM // 2) >= _SLOW_PAIR]
    match = nn.init.orthogonal_(torch.empty(len(slow), _HIDDEN), gain=_MATCH_SCALE)
    copy = nn.init.orthogonal_(torch.empty(_HEAD_DIM, _HIDDEN))
    base = key_head * _HEAD_DIM
    attention.k_proj.weight[[base + i for i in slow]] = match
    attention.v_proj.weight[base : base + _HEAD_DIM] = copy
    group = _HEADS // _KEY_HEADS
    for head in range(key_head * group, (key_head + 1) * group - 1):
        base = head * _HEAD_DIM
        attention.q_proj.weight[[base + i for i in slow]] = match
        attention.o_proj.weight[:, base : base + _HEAD_DIM] += _COPY_SCALE * copy.T
