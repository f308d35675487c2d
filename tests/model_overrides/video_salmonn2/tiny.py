"""Tiny models of both families with random weights, a tokenizer, and clips as real mp4 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fastav_plugin.lab.testbed.media import write_media
from fastav_plugin.model_overrides import video_salmonn2
from tests.support.family_configs import spread

#: Configuration classes declare their arguments too strictly for mypy.
salmonn: Any = video_salmonn2

#: 256 bytes, then the decoder's own tokens, then ids that no text has.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
VISION_START, VISION_END, VIDEO, AUDIO, IMAGE = 259, 260, 261, 262, 263
VOCABULARY = 272
#: Ids that generation must not produce.
SUPPRESSED = list(range(256, VOCABULARY))

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "pad_token_id": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
QFORMER = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "encoder_width": 16,
}
WHISPER = {
    "num_mel_bins": 8,
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
}
#: Three tokens a side after pooling, with a newline each: 12 tokens per frame.
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 4,
    "vision_use_head": False,
}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 48,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": 16,
    "fullatt_block_indexes": [0],
}


def config(**changes: Any) -> Any:
    """video-SALMONN 2, tiny."""
    return salmonn.VideoSalmonn2Config(
        **TEXT
        | {
            "vision_config": dict(SIGLIP),
            "speech_config": dict(WHISPER),
            "qformer_config": dict(QFORMER),
            "video_token_id": VIDEO,
            "audio_token_id": AUDIO,
        }
        | changes
    )


def plus_config(**changes: Any) -> Any:
    """2+, tiny."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
    return salmonn.VideoSalmonn2PlusConfig(
        **{
            "text_config": TEXT | {"rope_parameters": rope},
            "vision_config": dict(QWEN_VISION),
            "audio_config": WHISPER | {"qformer_config": dict(QFORMER)},
            "video_token_id": VIDEO,
            "audio_token_id": AUDIO,
            "image_token_id": IMAGE,
            "vision_start_token_id": VISION_START,
            "vision_end_token_id": VISION_END,
            "max_pixels": 256,
        }
        | changes
    )


CONFIGS = {"video_salmonn2": config, "video_salmonn2_plus": plus_config}
MODELS = {
    "video_salmonn2": "VideoSalmonn2ForConditionalGeneration",
    "video_salmonn2_plus": "VideoSalmonn2PlusForConditionalGeneration",
}
PROCESSORS = {
    "video_salmonn2": "VideoSalmonn2Processor",
    "video_salmonn2_plus": "VideoSalmonn2PlusProcessor",
}


def build(name: str, attention: str = "sdpa", **changes: Any) -> Any:
    """A new model with attentive weights, the same for every attention implementation."""
    return filled(getattr(salmonn, MODELS[name]), CONFIGS[name](**changes), attention)


def filled(head: Any, config: Any, attention: str = "sdpa") -> Any:
    """A model of any configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = head._from_config(config, attn_implementation=attention)
        spread(model)
    return model.eval()


def processor(name: str, **changes: Any) -> Any:
    """The family's processor for its tiny model."""
    found = getattr(salmonn, PROCESSORS[name])
    return found.from_config(CONFIGS[name](), tokenizer(), **changes)


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens of Qwen2. A new one: saving a processor marks its own."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def write_clip(
    path: Path, seconds: float, *, fps: int = 8, sound: bool = True, side: int = 32, seed: int = 0
) -> Path:
    """An mp4 file of noise that changes every frame, with a tone."""
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, 256, (round(seconds * fps), side, side, 3), np.uint8)
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * (220 + 40 * seed) * time)).astype(np.float32)
    write_media(path, frames, tone, fps)
    if not sound:
        drop_stream(path, "audio")
    return path


def drop_stream(path: Path, kind: str) -> None:
    """Rewrite a file without its pictures or without its sound."""
    whole = path.rename(path.with_suffix(".whole.mp4"))
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        kept = [stream for stream in source.streams if stream.type != kind]
        streams = {stream.index: target.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(*kept):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    whole.unlink()
