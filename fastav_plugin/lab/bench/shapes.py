"""Models that `fastav bench` measures: known shapes with random weights, or a checkpoint folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from fastav_plugin.analysis.inspection import model_class
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.errors import ConfigError, in_short, unknown_name
from fastav_plugin.hub.files import local_folder
from fastav_plugin.hub.ids import is_hub_id
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.registry import GENERIC, override_for_config
from fastav_plugin.planning.dry_run import PromptSize
from fastav_plugin.upstream.models import from_config

#: VideoLLaMA2's rule of the FastAV paper.
RULE = {"video": "all", "audio": "first 10 tokens"}
#: FastAV's published settings for VideoLLaMA2, whose shape and prompt these are.
PUBLISHED = {"global_rule": RULE, "fine_drop_ratio": 0.2}

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Shape:
    """A decoder of known size and a typical prompt.

    Attributes:
        config: makes the configuration.
        model: the class of transformers.
        prompt: token counts.
        methods: measured by default.
        overrides: fields of FastAVConfig that suit the prompt.
    """

    config: Callable[[], Any]
    model: Any
    prompt: PromptSize = field(default_factory=PromptSize)
    methods: tuple[str, ...] = ("fastav", "divprune", "fastav+divprune")
    overrides: Mapping[str, Any] = field(default_factory=dict)


def _qwen2(layers: int, hidden: int, heads: int, groups: int, width: int, words: int) -> Shape:
    def config() -> Any:
        return Qwen2Config(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=groups,
            intermediate_size=width,
            vocab_size=words,
            max_position_embeddings=65536,
            tie_word_embeddings=hidden < 3584,
            bos_token_id=None,
            eos_token_id=None,
        )

    return Shape(config, Qwen2ForCausalLM, overrides=PUBLISHED)


def _llava(prompt: PromptSize, visual_keep_ratio: float) -> Shape:
    def config() -> Any:
        text = LlamaConfig(
            num_hidden_layers=32,
            hidden_size=4096,
            num_attention_heads=32,
            intermediate_size=11008,
            vocab_size=32064,
            max_position_embeddings=65536,
        )
        return LlavaConfig(
            text_config=text,
            vision_config=CLIPVisionConfig(num_hidden_layers=1),
            image_token_index=32000,
        )

    overrides = {"visual_keep_ratio": visual_keep_ratio}
    return Shape(config, LlavaForConditionalGeneration, prompt, overrides=overrides)


def _omni(layers: int, hidden: int, heads: int, groups: int, width: int, words: int) -> Shape:
    def config() -> Any:
        made: Any = Qwen2_5OmniThinkerConfig(
            audio_config={"encoder_layers": 1, "output_dim": hidden},
            vision_config={"depth": 1, "out_hidden_size": hidden, "fullatt_block_indexes": [0]},
            text_config={
                "num_hidden_layers": layers,
                "hidden_size": hidden,
                "num_attention_heads": heads,
                "num_key_value_heads": groups,
                "intermediate_size": width,
                "vocab_size": words,
                "max_position_embeddings": 65536,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1_000_000.0,
                    "mrope_section": [16, 24, 24],
                },
            },
        )
        # generate() looks for pictures by it.
        made.vision_start_token_id = 151652
        return made

    # Half a minute: a grid of 72 tokens for each second of video, 25 tokens of sound.
    prompt = PromptSize(text=50, video=2160, audio=750, frames=30)
    return Shape(config, Qwen2_5OmniThinkerForConditionalGeneration, prompt)


#: Encoders have one layer, because only the decoder is measured.
SHAPES: dict[str, Shape] = {
    "tiny": _qwen2(8, 64, 4, 2, 128, 512),
    "qwen2-0.5b": _qwen2(24, 896, 14, 2, 4864, 151936),
    "qwen2-1.5b": _qwen2(28, 1536, 12, 2, 8960, 151936),
    "qwen2-7b": _qwen2(28, 3584, 28, 4, 18944, 152064),
    "llava-1.5-7b": _llava(PromptSize(text=50, image=576, video=0, audio=0), 0.098),
    "llava-next-video-7b": _llava(PromptSize(text=50, video=1152, audio=0, frames=8), 0.1),
    "qwen2.5-omni-3b": _omni(36, 2048, 16, 2, 11008, 151936),
    "qwen2.5-omni-7b": _omni(28, 3584, 28, 4, 18944, 152064),
}


def find_shape(name: str) -> Shape:
    """The shape of a name, or that of a checkpoint with a prompt of its media.

    Args:
        name: of `SHAPES`, a folder or a hub id.

    Raises:
        ConfigError: neither.
    """
    if name in SHAPES:
        return SHAPES[name]
    if not Path(name).is_dir() and not is_hub_id(name):
        raise unknown_name("shape", name, SHAPES, ", or the folder or hub id of a checkpoint.")
    config = read_config(name)
    override = override_for_config(config) or GENERIC
    prompt = PromptSize.of_kinds(override.placeholders(config).values())
    return Shape(lambda: config, model_class(config), prompt)


def make_model(
    name: str,
    *,
    dtype: str = "bfloat16",
    attention: str | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """A shape with random weights, created in its dtype without a larger copy; or a checkpoint.

    Args:
        name: a name of `SHAPES`, a folder or a hub id.
        dtype: a name of `DTYPES`.
        attention: transformers' name of the attention implementation; None for its choice.
        device: where the model goes.
        seed: of random weights.

    Raises:
        ConfigError: the checkpoint cannot be loaded, or the device or attention not be used.
    """
    shape = find_shape(name)
    try:
        if name in SHAPES:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = from_config(
                    shape.model, shape.config(), dtype=DTYPES[dtype], attn_implementation=attention
                )
        else:
            model = shape.model.from_pretrained(
                local_folder(name),
                dtype=DTYPES[dtype],
                attn_implementation=attention,
                local_files_only=True,
            )
        model = unwrap(model).to(device)
    except (RuntimeError, ValueError, OSError, ImportError, AssertionError) as error:
        first = in_short(error)
        raise ConfigError(f"Cannot make {name!r} on {device!r}: {first}") from error
    # Every run decodes as many tokens as it is asked for.
    generation: Any = model.generation_config
    generation.eos_token_id, generation.pad_token_id = None, 0
    nn.Module.eval(model)
    return model


def draw_ids(model: Any, batch: int, length: int) -> Tensor:
    """Random token ids, int64 [batch, length], none of them a media placeholder."""
    config = model.config.get_text_config()
    named = {**config.to_dict(), **model.config.to_dict()}
    special = {
        value
        for name, value in named.items()
        if name.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    words = torch.tensor([i for i in range(min(config.vocab_size, 30000)) if i not in special])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, len(words), (batch, length), generator=generator)
    return words[drawn].to(model.device)
