"""The 7B model at its true size on the meta device, against tables written from its description."""

from __future__ import annotations

import fnmatch
import functools
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVConfig, attach, detach
from fastav_plugin.lab.bench.clip import make_clip_config
from fastav_plugin.model_overrides.videollama2 import VideoLlama2ForConditionalGeneration
from fastav_plugin.model_overrides.videollama2.official import our_name, unused_names

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def decoder() -> Shapes:
    found: Shapes = {
        "model.embed_tokens.weight": (152064, 3584),
        "model.norm.weight": (3584,),
        "lm_head.weight": (152064, 3584),
    }
    for number in range(28):
        layer = f"model.layers.{number}"
        for kind, outputs in (("q", 3584), ("k", 512), ("v", 512)):
            found |= linear(f"{layer}.self_attn.{kind}_proj", 3584, outputs)
        found |= linear(f"{layer}.self_attn.o_proj", 3584, 3584, bias=False)
        for kind in ("gate", "up"):
            found |= linear(f"{layer}.mlp.{kind}_proj", 3584, 18944, bias=False)
        found |= linear(f"{layer}.mlp.down_proj", 18944, 3584, bias=False)
        found[f"{layer}.input_layernorm.weight"] = (3584,)
        found[f"{layer}.post_attention_layernorm.weight"] = (3584,)
    return found


def vision() -> Shapes:
    tower = "model.vision_tower.vision_tower.vision_model"
    found: Shapes = {
        f"{tower}.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        f"{tower}.embeddings.patch_embedding.bias": (1152,),
        f"{tower}.embeddings.position_embedding.weight": (729, 1152),
        f"{tower}.head.probe": (1, 1, 1152),
        f"{tower}.head.attention.in_proj_weight": (3456, 1152),
        f"{tower}.head.attention.in_proj_bias": (3456,),
    }
    found |= norm(f"{tower}.post_layernorm", 1152) | norm(f"{tower}.head.layernorm", 1152)
    found |= linear(f"{tower}.head.attention.out_proj", 1152, 1152)
    found |= linear(f"{tower}.head.mlp.fc1", 1152, 4304) | linear(
        f"{tower}.head.mlp.fc2", 4304, 1152
    )
    for number in range(27):
        layer = f"{tower}.encoder.layers.{number}"
        for kind in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= linear(f"{layer}.self_attn.{kind}", 1152, 1152)
        found |= linear(f"{layer}.mlp.fc1", 1152, 4304) | linear(f"{layer}.mlp.fc2", 4304, 1152)
        found |= norm(f"{layer}.layer_norm1", 1152) | norm(f"{layer}.layer_norm2", 1152)
    return found


def connector() -> Shapes:
    found: Shapes = {
        "model.mm_projector.sampler.0.weight": (3584, 3584, 2, 2, 2),
        "model.mm_projector.sampler.0.bias": (3584,),
    }
    for place in (0, 2):
        found |= linear(f"model.mm_projector.readout.{place}", 3584, 3584)
    for stage in ("s1", "s2"):
        for number in range(1, 5):
            first = (stage, number) == ("s1", 1)
            inputs, reduced = (1152, 288) if first else (3584, 896)
            block = f"model.mm_projector.{stage}.b{number}"
            shapes = {"conv1": (3584, inputs, 1, 1), "conv2": (3584, 1, 3, 3)}
            shapes["conv3"] = (3584, 3584, 1, 1)
            if first:
                shapes["downsample"] = (3584, 1152, 1, 1)
            for name, shape in shapes.items():
                found[f"{block}.{name}.conv.weight"] = shape
                found |= norm(f"{block}.{name}.bn", 3584)
            found[f"{block}.se.fc1.weight"] = (reduced, 3584, 1, 1)
            found[f"{block}.se.fc1.bias"] = (reduced,)
            found[f"{block}.se.fc2.weight"] = (3584, reduced, 1, 1)
            found[f"{block}.se.fc2.bias"] = (3584,)
    return found


def sound() -> Shapes:
    tower = "model.audio_tower"
    found: Shapes = {
        f"{tower}.patch_embedding.weight": (512, 1, 16, 16),
        f"{tower}.encoder.pos_conv.0.bias": (768,),
        f"{tower}.encoder.pos_conv.0.weight_g": (1, 1, 128),
        f"{tower}.encoder.pos_conv.0.weight_v": (768, 48, 128),
    }
    found |= norm(f"{tower}.layer_norm", 512) | norm(f"{tower}.encoder.layer_norm", 768)
    found |= linear(f"{tower}.post_extract_proj", 512, 768)
    found |= linear(f"{tower}.predictor", 768, 527)
    for number in range(12):
        layer = f"{tower}.encoder.layers.{number}"
        for kind in "qkv":
            found |= linear(f"{layer}.self_attn.{kind}_proj", 768, 768)
        found |= linear(f"{layer}.self_attn.out_proj", 768, 768)
        found |= linear(f"{layer}.self_attn.grep_linear", 64, 8)
        found[f"{layer}.self_attn.grep_a"] = (1, 12, 1, 1)
        found[f"{layer}.self_attn.relative_attention_bias.weight"] = (320, 12)
        found |= norm(f"{layer}.self_attn_layer_norm", 768)
        found |= norm(f"{layer}.final_layer_norm", 768)
        found |= linear(f"{layer}.fc1", 768, 3072) | linear(f"{layer}.fc2", 3072, 768)
    return found


def projector() -> Shapes:
    return linear("model.mm_projector_a.0", 768, 3584) | linear(
        "model.mm_projector_a.2", 3584, 3584
    )


def size(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


@functools.cache
def model() -> Any:
    with torch.device("meta"):
        return VideoLlama2ForConditionalGeneration(make_clip_config("videollama2-av")).eval()


def test_the_tables_are_the_published_files() -> None:
    """Counts that are known of the files and of the authors' modules."""
    assert (len(sound()), size(sound())) == (252, 90_759_295)
    assert size(projector()) == 15_604_736
    parts = {"s1": 119_744_416, "s2": 128_683_520, "sampler": 102_764_032, "readout": 25_697_280}
    for part, count in parts.items():
        prefix = f"model.mm_projector.{part}."
        assert size({n: s for n, s in connector().items() if n.startswith(prefix)}) == count


def test_every_published_tensor_has_its_place() -> None:
    published = decoder() | vision() | connector() | sound() | projector()
    own = {name: tuple(tensor.shape) for name, tensor in model().state_dict().items()}
    repeats = "model.audio_tower.encoder.layers.*.relative_attention_bias.weight"
    unused = (*unused_names(model().config), repeats)
    for name, shape in published.items():
        ours = our_name(name)
        if ours not in own:
            assert any(fnmatch.fnmatch(ours, pattern) for pattern in unused), name
        else:
            assert own[ours] == shape, name
    assert set(own) <= {our_name(name) for name in published}
    left_out = [name for name in published if our_name(name) not in own]
    # Of the vision tower its last layer and head, of the sound tower its classifier and copies.
    assert len(left_out) == 16 + 11 + 2 + 11


@pytest.mark.parametrize(("frames", "tokens"), [(8, 676), (16, 1352), (32, 2704)])
def test_tokens_of_a_clip(frames: int, tokens: int) -> None:
    clip = torch.empty((1, frames, 3, 384, 384), device="meta")
    (found,) = model().get_video_features(clip).pooler_output
    assert found.shape == (tokens, 3584)
    assert model().config.video_tokens(frames) == tokens
    picture = torch.empty((1, frames, 3, 384, 384), device="meta")
    assert model().get_image_features(picture).pooler_output[0].shape == (tokens, 3584)


def test_tokens_of_a_sound() -> None:
    banks = torch.empty((1, 2998, 128), device="meta")
    (found,) = model().get_audio_features(banks).pooler_output
    assert found.shape == (1496, 3584)
    assert model().config.audio_config.tokens(2998) == 1496


def test_placeholders_are_rows_that_no_text_uses() -> None:
    config = model().config
    ids = [config.image_token_id, config.video_token_id, config.audio_token_id]
    assert ids == [152061, 152062, 152063]
    # The tokenizer of Qwen2 ends here.
    assert min(ids) > 151_646


def test_it_can_be_pruned_as_the_paper_does() -> None:
    wanted = FastAVConfig.for_model(model())
    try:
        attach(model(), wanted)
    finally:
        detach(model())
    assert (wanted.global_layer or 14, wanted.fine_drop_ratio) == (14, 0.2)
    assert wanted.rules() == {"image": "all", "video": "all", "audio": "first 10 tokens"}
