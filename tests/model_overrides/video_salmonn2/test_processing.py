"""Prompts and media inputs made from real files, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2VLVideoProcessor, WhisperFeatureExtractor

from fastav_plugin import ConfigError, Modality, TokenMap
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.sound import read_sound
from fastav_plugin.model_overrides import video_salmonn2
from fastav_plugin.model_overrides.registry import override_for_config
from fastav_plugin.model_overrides.video_salmonn2 import Clip
from tests.model_overrides.video_salmonn2 import tiny

Clips = dict[str, Path]
#: Visual tokens of one tiny frame, and of one tiny time grid.
FRAME = 12
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"
NAMES = list(tiny.CONFIGS)


def ids(text: str) -> list[int]:
    found: list[int] = tiny.tokenizer()(text, add_special_tokens=False).input_ids
    return found


def token_map(name: str, inputs: Any) -> TokenMap:
    """What the override makes of a prompt."""
    config = tiny.CONFIGS[name]()
    override = override_for_config(config)
    assert override is not None
    return override.token_map(config, inputs["input_ids"], inputs["attention_mask"], dict(inputs))


def test_frames_and_sound_by_turns(clips: Clips) -> None:
    inputs = tiny.processor("video_salmonn2")(video=str(clips["ten"]), text="What?")
    block = [tiny.VIDEO] * FRAME + [tiny.AUDIO] * 6
    expected = [*ids(BEFORE), *block * 10, *ids("\n"), *ids("\nWhat?" + AFTER)]
    assert inputs["input_ids"].tolist() == [expected]
    assert inputs["attention_mask"].tolist() == [[1] * len(expected)]
    assert inputs["frames_per_clip"].tolist() == [10]
    assert inputs["audio_layout"].tolist() == [[1, 60, 60]]
    tokens = token_map("video_salmonn2", inputs)
    start = len(ids(BEFORE))
    frames = [frame for frame in range(10) for _ in range(FRAME + 6)]
    assert tokens.frame[0, start : start + len(frames)].tolist() == frames
    assert (tokens.frame[0, start + len(frames) :] == -1).all()
    assert set(tokens.segment[0][tokens.media[0]].tolist()) == {0}
    kinds = tokens.modality[0, start : start + FRAME + 6].tolist()
    assert kinds == [Modality.VIDEO] * FRAME + [Modality.AUDIO] * 6


def test_ten_seconds_at_true_size(clips: Clips) -> None:
    """182 tokens of each frame and two of each second, from a file: 1,880 media tokens."""
    config: Any = video_salmonn2.VideoSalmonn2Config()
    processor = video_salmonn2.VideoSalmonn2Processor.from_config(config, tiny.tokenizer())
    inputs = processor(video=clips["ten"], text="What?")
    ids = inputs["input_ids"]
    assert int((ids == config.video_token_id).sum()) == 10 * 182
    assert int((ids == config.audio_token_id).sum()) == 60
    assert inputs["pixel_values_videos"].shape == (10, 3, 384, 384)
    assert inputs["input_features"].shape == (1, 128, 3000)


def test_grids_and_sound_by_turns(clips: Clips) -> None:
    inputs = tiny.processor("video_salmonn2_plus")(video=clips["three"], text="What?")
    # 24 frames at 8 per second, two to a grid of a quarter of a second.
    assert inputs["video_grid_thw"].tolist() == [[12, 8, 8]]
    assert inputs["second_per_grid_ts"].tolist() == [0.25]
    assert inputs["segments_per_sound"].tolist() == [1]
    expected = [*ids(BEFORE), tiny.VISION_START]
    for grid in range(12):
        heard = 60 - 5 if grid == 11 else int(grid % 2)
        expected += [tiny.VIDEO] * 16 + [tiny.AUDIO] * heard
    expected += [tiny.VISION_END, *ids("\nWhat?" + AFTER)]
    assert inputs["input_ids"].tolist() == [expected]
    tokens = token_map("video_salmonn2_plus", inputs)
    frames = tokens.frame[0].tolist()
    seen = [frame for frame, token in zip(frames, expected, strict=True) if token == tiny.VIDEO]
    assert seen == [grid for grid in range(12) for _ in range(16)]
    heard_with = [f for f, token in zip(frames, expected, strict=True) if token == tiny.AUDIO]
    assert heard_with == [1, 3, 5, 7, 9] + [11] * 55


def test_pictures_and_sound_are_those_of_the_file(clips: Clips) -> None:
    processor = tiny.processor("video_salmonn2")
    inputs = processor(video=clips["three"], text="What?")
    frames = list(ClipFile(clips["three"]).frames([0, 8, 16]))
    expected = processor.image_processor(frames, return_tensors="pt").pixel_values
    assert torch.equal(inputs["pixel_values_videos"], expected)
    assert expected.shape == (3, 3, 24, 24)
    (sound,) = read_sound(clips["three"], [(0.0, 3.0)])
    extractor = WhisperFeatureExtractor(feature_size=8)
    heard = extractor(sound, sampling_rate=16_000, return_tensors="pt").input_features
    assert torch.equal(inputs["input_features"], heard)


def test_patches_are_those_of_the_whole_clip(clips: Clips) -> None:
    """Two frames at a time give what the library's video processor makes of all of them."""
    inputs = tiny.processor("video_salmonn2_plus", max_frames=10)(
        video=clips["three"], text="What?"
    )
    indices = [int(index) for index in np.linspace(0, 23, 10)]
    frames = np.stack(list(ClipFile(clips["three"]).frames(indices)))
    whole = Qwen2VLVideoProcessor(patch_size=4)(
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        size={"shortest_edge": 256, "longest_edge": 256},
        do_sample_frames=False,
        cap_pixels_per_frame=False,
        return_tensors="pt",
    )
    assert torch.equal(inputs["pixel_values_videos"], whole.pixel_values_videos)
    assert inputs["video_grid_thw"].tolist() == whole.video_grid_thw.tolist() == [[5, 4, 4]]


@pytest.mark.parametrize(("most", "pixels"), [(768, 0.95 * 768 / 24 * 256), (24, 256.0)])
def test_fewer_frames_may_be_larger(clips: Clips, most: int, pixels: float) -> None:
    inputs = tiny.processor("video_salmonn2_plus", max_frames=most)(
        video=clips["three"], text="What?"
    )
    _, height, width = inputs["video_grid_thw"][0].tolist()
    assert height * width * 16 == min(32 * 32, int(pixels))


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_without_sound_is_only_seen(name: str, clips: Clips) -> None:
    inputs = tiny.processor(name)(video=clips["silent"], text="What?")
    assert "input_features" not in inputs
    assert not (inputs["input_ids"] == tiny.AUDIO).any()
    assert (inputs["input_ids"] == tiny.VIDEO).sum() > 0
    deaf = tiny.processor(name)(video=clips["three"], text="What?", sound=False)
    assert "input_features" not in deaf


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_alone_is_counted_in_seconds(name: str, clips: Clips) -> None:
    inputs = tiny.processor(name)(audio=clips["unseen"], text="What?")
    assert int((inputs["input_ids"] == tiny.AUDIO).sum()) == 60
    assert "pixel_values_videos" not in inputs
    tokens = token_map(name, inputs)
    assert tokens.frame[tokens.media].tolist() == [second for second in range(30) for _ in range(2)]


@pytest.mark.parametrize(("extra", "tokens"), [(0, 60), (256, 60), (640, 60), (3200, 120)])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_codec_adds_opens_no_segment(name: str, extra: int, tokens: int) -> None:
    """AAC decodes 30 seconds to 30.016."""
    sound = np.zeros(30 * 16_000 + extra, np.float32)
    inputs = tiny.processor(name)(audio=sound, text="What?")
    assert int((inputs["input_ids"] == tiny.AUDIO).sum()) == tokens


@pytest.mark.parametrize("name", NAMES)
def test_text_alone(name: str) -> None:
    inputs = tiny.processor(name)(text="What?")
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["input_ids"].tolist() == [ids(BEFORE + "What?" + AFTER)]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_rows_padded_on_the_left(name: str, clips: Clips) -> None:
    processor = tiny.processor(name)
    texts = ["What is it?", "Well?", "Why?", "Who sings?"]
    videos = [clips["three"], None, clips["silent"], None]
    sounds = [None, None, None, np.zeros(16_000, np.float32)]
    batch = processor(video=videos, audio=sounds, text=texts)
    media: dict[str, list[torch.Tensor]] = {}
    for row, (text, video, sound) in enumerate(zip(texts, videos, sounds, strict=True)):
        alone = processor(video=video, audio=sound, text=text)
        length = alone["input_ids"].shape[1]
        assert batch["input_ids"][row, -length:].tolist() == alone["input_ids"][0].tolist()
        assert batch["attention_mask"][row].sum() == length
        assert (batch["input_ids"][row, :-length] == 256).all()
        if name == "video_salmonn2_plus" and "frame_ids" in alone:
            assert batch["frame_ids"][row, -length:].tolist() == alone["frame_ids"][0].tolist()
        for key in set(alone) - {"input_ids", "attention_mask", "frame_ids"}:
            media.setdefault(key, []).append(alone[key])
    for key, found in media.items():
        assert torch.equal(batch[key], torch.cat(found))


@pytest.mark.parametrize("name", NAMES)
def test_two_clips_in_one_prompt_are_counted_on(name: str, clips: Clips) -> None:
    text = "First <video>\nthen <video>\nWhich is longer?"
    inputs = tiny.processor(name)(video=[clips["three"], clips["short"]], text=text)
    tokens = token_map(name, inputs)
    assert set(tokens.segment[0].tolist()) == {-1, 0, 1}
    frames = tokens.frame[0][tokens.media[0]]
    assert sorted(set(frames.tolist())) == list(range(int(frames.max()) + 1))
    first = frames[tokens.segment[0][tokens.media[0]] == 0]
    second = frames[tokens.segment[0][tokens.media[0]] == 1]
    assert int(second.min()) == int(first.max()) + 1
    plain = tiny.processor(name)(video=[clips["three"], clips["short"]], text="Which?")
    assert (plain["input_ids"] == tiny.VIDEO).sum() == (inputs["input_ids"] == tiny.VIDEO).sum()


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_gives_the_same_prompt(name: str, clips: Clips) -> None:
    processor = tiny.processor(name)
    content = [{"type": "video"}, {"type": "audio"}, {"type": "text", "text": "What?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == BEFORE + "<video>\nWhat?" + AFTER
    asked = processor(video=clips["short"], text=prompt)
    assert torch.equal(
        asked["input_ids"], processor(video=clips["short"], text="What?")["input_ids"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_becomes_inputs(name: str, clips: Clips) -> None:
    """As servers and pipelines call it: files named in the conversation."""
    processor = tiny.processor(name)
    chats = [
        [{"role": "user", "content": [{"type": "video", "path": str(clips[clip])}, text]}]
        for clip, text in (
            ("short", {"type": "text", "text": "What?"}),
            ("silent", {"type": "text", "text": "Why is it silent?"}),
        )
    ]
    options = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
    made = processor.apply_chat_template(chats, return_tensors="pt", **options)
    asked = processor(video=[clips["short"], clips["silent"]], text=["What?", "Why is it silent?"])
    assert set(made) == set(asked)
    assert all(torch.equal(made[key], tensor) for key, tensor in asked.items())


@pytest.mark.parametrize("name", NAMES)
def test_clips_that_are_not_in_a_file(name: str, clips: Clips) -> None:
    """Frames and samples in memory give what the file with them gives."""
    frames = np.stack(list(ClipFile(clips["three"]).frames(range(24))))
    (sound,) = read_sound(clips["three"])
    processor = tiny.processor(name)
    held = processor(videos=Clip(frames, 8.0, sound), text="What?")
    read = processor(video=clips["three"], text="What?")
    for key, tensor in read.items():
        assert torch.equal(held[key], tensor)
    other = processor(video=clips["three"], audio=sound[::-1].copy(), text="What?")
    assert not torch.equal(other["input_features"], read["input_features"])


def test_one_second_has_its_rest_behind_it(clips: Clips) -> None:
    inputs = tiny.processor("video_salmonn2")(video=clips["short"], text="What?")
    assert inputs["audio_layout"].tolist() == [[1, 50, 50]]
    media = [token for token in inputs["input_ids"][0].tolist() if token in (261, 262)]
    assert media == [tiny.VIDEO] * FRAME + [tiny.AUDIO] * 60
    tokens = token_map("video_salmonn2", inputs)
    assert set(tokens.frame[tokens.media].tolist()) == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "<video> and <video>?", "video": ["three"]}, "2 <video> and 0 <audio> tags"),
        ({"text": "<audio>?", "video": ["three"]}, "0 <video> and 1 <audio> tags, but 1 clips"),
        ({"text": ["a", "b"], "video": ["three"]}, "1 entries for 2 prompts"),
        ({"text": []}, "must be a question"),
        ({}, "`text` is missing"),
        ({"text": "a", "sampling_rate": 8000}, "`sampling_rate` must be 16000, got 8000"),
        ({"text": "a", "return_tensors": "np"}, "must be 'pt'"),
        ({"text": "a", "audio": [np.zeros((2, 5), np.float32)]}, "got ndarray of shape"),
        (
            {"text": "a", "video": ["three", "short"], "audio": [np.zeros(9, np.float32)]},
            "2 clips and 1 sounds",
        ),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused(
    name: str, arguments: dict[str, Any], message: str, clips: Clips
) -> None:
    if "video" in arguments:
        arguments = arguments | {"video": [clips[clip] for clip in arguments["video"]]}
    with pytest.raises(ConfigError, match=message):
        tiny.processor(name)(**arguments)
