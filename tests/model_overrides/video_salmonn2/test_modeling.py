"""The parts of both models against plain computations of what they are said to be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from fastav_plugin import TokenMapError
from fastav_plugin.model_overrides import video_salmonn2
from fastav_plugin.model_overrides.video_salmonn2.audio_generation import repeat_rows
from tests.model_overrides.video_salmonn2 import tiny
from tests.support.prompts import noise

salmonn: Any = video_salmonn2
NAMES = list(tiny.CONFIGS)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("stride", [4, 2])
def test_the_qformer_is_bert_over_windows(stride: int) -> None:
    """Layers of BERT with cross-attention, run on one window at a time."""
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
    config = salmonn.WindowQFormerConfig(**sizes, encoder_width=24, query_length=2)
    torch.manual_seed(0)
    qformer = salmonn.WindowQFormer(config)
    for parameter in qformer.parameters():
        nn.init.normal_(parameter, std=0.5)
    make: Any = BertConfig
    bert = make(**sizes, add_cross_attention=True, is_decoder=True, attn_implementation="eager")
    layers = []
    for part in qformer.bert.encoder["layer"]:
        layer: Any = BertLayer(bert).eval()
        names = {"intermediate_query.dense": "intermediate.dense", "output_query": "output"}
        weights = part.state_dict()
        for theirs, ours in names.items():
            weights = {
                key.replace(theirs, ours) if key.startswith(theirs) else key: tensor
                for key, tensor in weights.items()
            }
        layer.load_state_dict(weights)
        layers.append(layer)
    queries, frames = noise(1, 1, 2, 24), noise(2, 3, 14, 24)
    found = qformer(queries, frames, 4, stride)
    starts = range(0, 14 - 4 + 1, stride)
    assert found.shape == (3, 2 * len(starts), 24)
    for sound in range(3):
        for window, start in enumerate(starts):
            norm = qformer.bert.embeddings["LayerNorm"]
            states = functional.layer_norm(queries, (24,), norm.weight, norm.bias, 1e-12)
            for layer in layers:
                states = layer(
                    states, encoder_hidden_states=frames[sound : sound + 1, start : start + 4]
                )
                states = states[0] if isinstance(states, tuple) else states
            close(found[sound, 2 * window : 2 * window + 2], states[0])


@torch.no_grad()
def test_frames_are_pooled_by_the_maximum_and_end_their_rows_in_a_newline() -> None:
    model = tiny.build("video_salmonn2").model
    pixels = noise(1, 3, 3, 24, 24)
    found = model.get_video_features(pixels, torch.tensor([2, 1])).pooler_output
    tower = model.vision_tower.vision_tower
    patches = tower(pixels, output_hidden_states=True).hidden_states[-1]
    assert patches.shape == (3, 36, 32)
    tokens = model.mm_projector(patches).unflatten(1, (6, 6))
    for frame in range(3):
        rows = []
        for y in range(3):
            for x in range(3):
                square = tokens[frame, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                rows.append(square.flatten(0, 1).amax(0))
            rows.append(model.image_newline)
        clip = found[0][12 * frame : 12 * frame + 12] if frame < 2 else found[1]
        close(clip, torch.stack(rows))


@torch.no_grad()
def test_an_odd_grid_loses_its_last_row_and_column() -> None:
    """As 27 patches a side become 13."""
    config = tiny.config(vision_config=tiny.SIGLIP | {"image_size": 28})
    assert config.tokens_per_frame == 12
    model = tiny.filled(salmonn.VideoSalmonn2ForConditionalGeneration, config).model
    features = model.get_video_features(noise(1, 1, 3, 28, 28), torch.tensor([1])).pooler_output
    assert features[0].shape == (12, 48)
    assert salmonn.VideoSalmonn2Config().tokens_per_frame == 182


@torch.no_grad()
def test_sound_of_several_segments() -> None:
    """Windows of 25 frames, projected, and marked with the segment they are of."""
    model = tiny.build("video_salmonn2")
    mel = noise(1, 3, 8, 3000)
    layout = torch.tensor([[2, 100, 102], [1, 60, 60]])
    first, second = model.get_audio_features(mel, layout).pooler_output
    assert first.shape == (102 + 20, 48) and second.shape == (60, 48)
    heard = model.ln_speech(model.speech_encoder(mel).last_hidden_state)
    tokens = []
    for segment in range(3):
        for window in range(60):
            piece = heard[segment : segment + 1, 25 * window : 25 * window + 25]
            read = model.speech_Qformer(model.speech_query_tokens, piece, 25, 25)[0, 0]
            tokens.append(model.final_linear(model.speech_llama_proj(read)))
    plain = torch.stack(tokens).unflatten(0, (3, 60))
    marked = plain[1] + torch.tensor([0.0, 1.0] * 24)  # sine and cosine of 0
    both = torch.cat([plain[0], marked])
    repeated = [both[math.floor(index * 100 / 102)] for index in range(102)]
    close(first, torch.cat([torch.stack(repeated), both[100:]]))
    close(second, plain[2])


def test_segments_are_marked_by_sinusoids() -> None:
    marks = tiny.build("video_salmonn2")._segment_rows(torch.zeros(4, 1, 48))[:, 0]
    assert (marks[0] == 0).all()
    for segment in range(1, 4):
        for pair in range(24):
            angle = (segment - 1) / 10_000 ** (2 * pair / 48)
            close(marks[segment, 2 * pair], torch.tensor(math.sin(angle)))
            close(marks[segment, 2 * pair + 1], torch.tensor(math.cos(angle)))


@torch.no_grad()
def test_the_plus_encoder_projects_what_its_qformer_reads() -> None:
    model = tiny.build("video_salmonn2_plus").model
    mel = noise(1, 3, 8, 3000)
    first, second = model.get_audio_features(mel, torch.tensor([2, 1])).pooler_output
    assert first.shape == (120, 48) and second.shape == (60, 48)
    audio = model.audio
    heard = super(type(audio), audio).forward(mel[2:]).last_hidden_state
    piece = heard[:, 25 * 7 : 25 * 8]
    close(second[7], audio.audio_proj(audio.qformer(audio.q_tokens, piece, 25, 25)[0, 0]))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_features_stand_at_their_placeholders(name: str, clips: dict[str, Path]) -> None:
    model = tiny.build(name)
    inputs = tiny.processor(name)(
        video=[clips["three"], None, clips["short"]], text=["What?", "Why?", "Which?"]
    )
    seen: dict[str, Tensor] = {}
    decoder = model.get_decoder()
    handle = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    model(**inputs)
    handle.remove()
    embeddings, ids = seen["inputs_embeds"], inputs["input_ids"]
    if name == "video_salmonn2":
        video = model.model.get_video_features(
            inputs["pixel_values_videos"], inputs["frames_per_clip"]
        )
        audio = model.get_audio_features(inputs["input_features"], inputs["audio_layout"])
    else:
        video = model.model.get_video_features(
            inputs["pixel_values_videos"], inputs["video_grid_thw"]
        )
        audio = model.get_audio_features(
            input_features=inputs["input_features"],
            segments_per_sound=inputs["segments_per_sound"],
        )
    assert torch.equal(embeddings[ids == tiny.VIDEO], torch.cat(video.pooler_output))
    assert torch.equal(embeddings[ids == tiny.AUDIO], torch.cat(audio.pooler_output))
    text = ids < 261
    assert torch.equal(embeddings[text], model.get_input_embeddings()(ids[text]))


@pytest.mark.parametrize("name", NAMES)
def test_media_that_do_not_fit_are_refused(name: str, clips: dict[str, Path]) -> None:
    model = tiny.build(name)
    inputs = dict(tiny.processor(name)(video=clips["short"], text="What?"))
    other = tiny.processor(name)(audio=clips["ten"], text="What?")
    with pytest.raises(TokenMapError, match="60 audio placeholders, but 0 audio features"):
        deaf = {k: v for k, v in inputs.items() if k != "input_features"}
        model.generate(**deaf, max_new_tokens=1)
    with pytest.raises(TokenMapError, match="0 audio placeholders, but 60 audio features"):
        text = tiny.processor(name)(text="What?")
        sounds = {k: other[k] for k in model.audio_inputs}
        model.generate(**text, **sounds, max_new_tokens=1)
    ids = torch.tensor([[1, -200, 2]])
    with pytest.raises(TokenMapError, match="hold the placeholder -200, which stands for a whole"):
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=1)


@pytest.mark.parametrize("name", NAMES)
def test_new_weights_are_drawn(name: str) -> None:
    """None of a model made from its configuration is what lay in memory."""
    head = getattr(salmonn, tiny.MODELS[name])
    torch.manual_seed(1)
    first = head(tiny.CONFIGS[name]()).state_dict()
    torch.manual_seed(1)
    second = head(tiny.CONFIGS[name]()).state_dict()
    assert all(torch.equal(second[key], tensor) for key, tensor in first.items())
    assert all(float(tensor.abs().max()) < 10 for tensor in first.values())
    for key in ("model.image_newline", "speech_query_tokens", "model.audio.q_tokens"):
        assert key not in first or float(first[key].std()) > 0.01


def test_rows_are_repeated_with_all_their_media() -> None:
    a, b, c = torch.zeros(2, 1), torch.ones(3, 1), torch.ones(4, 1)
    found = repeat_rows((a, b, c), [5, 0, 4], 2)
    assert [len(item) for item in found] == [2, 3, 2, 3, 4, 4]
