"""VideoLLaMA2 and video-SALMONN 2 through references in the text, sound included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.model_overrides.tgi.prompts import PromptError
from tests.model_overrides.tgi.served import CLIPS, Served, Shard, ask, inline
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.videollama2.checkpoint import write_official

pytestmark = [pytest.mark.double, pytest.mark.usefixtures("tgi_double")]

CLIP, SOUND = "<video>matching.mp4</video>", "<audio>single.mp4</audio>"
QUESTION = "Is the circle visible?"


def save_salmonn(folder: Path) -> None:
    tiny.build("video_salmonn2").save_pretrained(folder)
    tiny.processor("video_salmonn2").save_pretrained(folder)


def served_from(save: Callable[[Path], Any], folder: Path) -> Served:
    save(folder)
    config = FastAVConfig(method="fastav", global_rule="first 20 tokens", min_media_tokens=1)
    return Served.load(folder, config, folder / "pruning")


@pytest.fixture(scope="module")
def llama(tgi_double: None, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served_from(write_official, tmp_path_factory.mktemp("videollama2"))


@pytest.fixture(scope="module")
def salmonn(tgi_double: None, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return served_from(save_salmonn, tmp_path_factory.mktemp("salmonn"))


def check(served: Served, *asked: tuple[str, ...]) -> None:
    """Requests that overlap are answered as generate() answers each alone."""
    requests = [ask(number, *pieces, new=3) for number, pieces in enumerate(asked)]
    shard = Shard(served)
    for request in requests:
        shard.prefill(request.id, request)
    shard.decode(*range(len(requests)))
    shard.finish()
    for request in requests:
        shard.said[request.id].check(served.alone(request))


def test_videollama2(llama: Served) -> None:
    check(llama, (CLIP, QUESTION), (QUESTION,))


def test_videollama2_hears_the_clip_it_sees(llama: Served) -> None:
    reader = llama.model.loaded.reader
    inputs = reader.read(ask(0, CLIP, QUESTION)).inputs
    processor = reader.layout.processor
    wanted = processor(text="<video>" + QUESTION, video=CLIPS / "matching.mp4")
    assert inputs.keys() == wanted.keys() and "input_features" in inputs
    for name, value in wanted.items():
        assert torch.equal(inputs[name], value)
    heard = reader.read(ask(0, SOUND, QUESTION)).inputs
    assert "input_features" in heard and "pixel_values_videos" not in heard
    assert "pixel_values" in reader.read(ask(0, inline(1), QUESTION)).inputs
    with pytest.raises(PromptError, match="one medium"):
        reader.read(ask(0, CLIP, SOUND, QUESTION))
    with pytest.raises(ConfigError, match="medium is missing"):
        reader.read(ask(0, "<image>", QUESTION))


def test_video_salmonn2(salmonn: Served) -> None:
    check(salmonn, (CLIP, QUESTION), (SOUND, QUESTION), (QUESTION,), (CLIP, CLIP, QUESTION))


def test_video_salmonn2_is_given_clips_with_their_sound(salmonn: Served) -> None:
    reader = salmonn.model.loaded.reader
    assert reader.layout.takes == {"video", "audio"}
    inputs = reader.read(ask(0, CLIP, QUESTION)).inputs
    wanted = reader.layout.processor(text="<video>" + QUESTION, videos=CLIPS / "matching.mp4")
    assert "input_features" in wanted and wanted["input_features"].any()
    assert inputs.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(inputs[name], value)
    with pytest.raises(PromptError, match="takes no image"):
        reader.read(ask(0, inline(1), QUESTION))
