"""What is shipped of the audio-language model: clips that can be heard, and all of its weights."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fastav_plugin.lab.real_audio.connector import Connector
from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE
from fastav_plugin.lab.real_audio.low_rank import add_low_rank
from fastav_plugin.lab.real_audio.shipped import CLIPS, ShippedClip, read_clips
from fastav_plugin.lab.real_audio.training.vocabulary import NAMES, TEST_NAMES
from fastav_plugin.lab.real_audio.weights_file import SHIPPED, read_weights

LISTED = read_clips()


def test_all_clips_are_there_and_small() -> None:
    assert len(LISTED) == 300
    assert {clip.path for clip in LISTED} == set(CLIPS.glob("*.opus"))
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) < 5e6


def test_sentences_follow_each_other_within_the_clip() -> None:
    for clip in LISTED:
        assert 3 <= len(clip.sentences) == len(clip.spans) <= 6
        edges = [0.0, *(edge for span in clip.spans for edge in span), clip.seconds]
        assert edges == sorted(edges)
        assert clip.seconds <= 30


def test_new_names_are_those_of_no_training_clip() -> None:
    for clip in LISTED:
        said = {word for text in clip.sentences for word in text.rstrip(".").split()}
        assert not said & set(NAMES if clip.new_names else TEST_NAMES)
    assert 20 < sum(clip.new_names for clip in LISTED) < 60


@pytest.mark.parametrize("clip", LISTED[::60], ids=lambda clip: clip.name)
def test_a_clip_is_loud_where_it_speaks(clip: ShippedClip) -> None:
    pytest.importorskip("av")
    sound = clip.read()
    assert len(sound) == round(clip.seconds * SAMPLE_RATE)

    def level(start: float, stop: float) -> float:
        part = sound[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)]
        return float(np.sqrt(np.mean(np.square(part))))

    pauses = zip([0.0, *(stop for _, stop in clip.spans)], clip.spans, strict=False)
    silence = min(level(before, start) for before, (start, _) in pauses)
    assert min(level(*span) for span in clip.spans) > 2 * silence


def test_the_weights_are_complete() -> None:
    connector, update = read_weights(SHIPPED)
    assert SHIPPED.stat().st_size < 12e6
    Connector().load_state_dict(connector)
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=16,
                hidden_size=576,
                intermediate_size=16,
                num_hidden_layers=30,
                num_attention_heads=9,
                num_key_value_heads=3,
            )
        )
        expected = {name: each.shape for name, each in add_low_rank(model).items()}
    assert {name: each.shape for name, each in update.items()} == expected
    assert all(torch.isfinite(each).all() for each in (*connector.values(), *update.values()))
    assert all(update[name].any() for name in update)
