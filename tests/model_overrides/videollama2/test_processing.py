"""Files into prompts: layout, frames, sound; all kinds of media."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from transformers import AutoProcessor, SiglipImageProcessor

from fastav_plugin import Modality, TokenMap
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.sound import read_sound
from fastav_plugin.model_overrides.registry import OVERRIDES
from fastav_plugin.model_overrides.videollama2 import BeatsFeatureExtractor, VideoLlama2Processor
from fastav_plugin.model_overrides.videollama2.media import (
    frame_indices,
    load_audio,
    load_clip_audio,
    pick_frames,
)
from tests.model_overrides.videollama2.checkpoint import tiny_config, tokenizer
from tests.model_overrides.videollama2.clips import rising_tone, write_sound

IMAGE, VIDEO, AUDIO = 77, 78, 79
QUESTION = "What is heard in this clip?"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
END = "<|im_end|>\n<|im_start|>assistant\n"


def ids_of(text: str) -> list[int]:
    found: list[int] = tokenizer()(text, add_special_tokens=False).input_ids
    return found


def prompt(media: list[int], question: str = QUESTION) -> list[int]:
    """The published layout, put together by hand."""
    return [*ids_of(SYSTEM), *media, *ids_of(f"\n{question}{END}")]


def map_of(inputs: Any) -> TokenMap:
    return OVERRIDES["videollama2_qwen2"].token_map(
        tiny_config(), inputs["input_ids"], inputs["attention_mask"], {}
    )


@pytest.mark.parametrize("frames", [None, 16, 32])
def test_a_clip_with_sound(processor: Any, heard: Path, frames: int | None) -> None:
    inputs = processor(video=heard, text=QUESTION, num_frames=frames)
    count = frames or 8
    video = processor.video_tokens(count)
    assert len(ids_of(SYSTEM)) == 14
    assert inputs["input_ids"].tolist() == [prompt([VIDEO] * video + [AUDIO] * 1496)]
    assert inputs["attention_mask"].all()
    assert inputs["pixel_values_videos"].shape == (1, count, 3, 56, 56)
    assert inputs["input_features"].shape == (1, 2998, 128)


def test_published_sizes_give_the_published_counts() -> None:
    images = SiglipImageProcessor(size={"height": 384, "width": 384})
    full = VideoLlama2Processor(images, BeatsFeatureExtractor(), tokenizer())
    clip = CLIPS_PATH / "single.mp4"
    for frames, tokens in ((8, 676), (16, 1352), (32, 2704)):
        ids = full(video=clip, text=QUESTION, num_frames=frames)["input_ids"][0]
        assert (ids == full.video_token_id).sum() == tokens
        assert (ids == full.audio_token_id).sum() == 1496
        assert (ids[14 : 14 + tokens] == full.video_token_id).all()
        assert (ids[14 + tokens : 14 + tokens + 1496] == full.audio_token_id).all()


def test_every_position_is_known(processor: Any, heard: Path, mute: Path) -> None:
    inputs = processor(video=[heard, mute, None], text=[QUESTION, "yes?", "no?"])
    tokens = map_of(inputs)
    first, second, third = (tokens.select(torch.tensor([row])) for row in range(3))
    length = tokens.length
    for row, (media, question) in enumerate(
        [([VIDEO] * 16 + [AUDIO] * 1496, QUESTION), ([VIDEO] * 16, "yes?"), ([], None)]
    ):
        ids = prompt(media, question) if question else ids_of(f"{SYSTEM}no?{END}")
        pads = length - len(ids)
        assert inputs["input_ids"][row].tolist() == [34] * pads + ids
        assert inputs["attention_mask"][row].tolist() == [0] * pads + [1] * len(ids)
        assert (tokens.modality[row, :pads] == Modality.PADDING).all()
    assert (first.modality[0, 14:30] == Modality.VIDEO).all()
    assert (first.modality[0, 30:1526] == Modality.AUDIO).all()
    # Two frames make one step of time, of 2 x 2 tokens.
    assert first.frame[0, 14:30].tolist() == [n // 4 for n in range(16)]
    assert (first.frame[0, 30:] == -1).all()
    assert first.segment[0, 14:30].unique().tolist() == [0]
    assert first.segment[0, 30:1526].unique().tolist() == [1]
    assert int(second.mask(Modality.VIDEO).sum()) == 16
    assert second.frame[second.mask(Modality.VIDEO)].tolist() == [n // 4 for n in range(16)]
    assert not third.media.any()
    assert inputs["pixel_values_videos"].shape[0] == 2
    assert inputs["input_features"].shape[0] == 1


def test_frames_are_the_middles_of_equal_parts(processor: Any, heard: Path) -> None:
    assert frame_indices(160, 8) == [10, 30, 50, 70, 89, 109, 129, 149]
    assert frame_indices(5, 8) == [0, 1, 1, 2, 2, 3, 3, 4]
    assert frame_indices(1, 2) == [0, 0]
    with av.open(str(heard)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert ClipFile(heard).count == len(every) == 160
    found = processor(video=heard, text=QUESTION)["pixel_values_videos"][0]
    expected = [every[index] for index in frame_indices(160, 8)]
    pictures = processor.image_processor(images=expected, return_tensors="pt")
    assert torch.equal(found, pictures.pixel_values)
    assert -1 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("layout", ["THWC", "TCHW"])
def test_frames_in_memory_are_sampled_alike(processor: Any, heard: Path, layout: str) -> None:
    with av.open(str(heard)) as container:
        every = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    given: Any = every if layout == "THWC" else torch.from_numpy(every).permute(0, 3, 1, 2)
    (sound,) = read_sound(heard)
    inputs = processor(videos=[given], audio=[sound], text=[QUESTION])
    expected = processor(video=heard, text=QUESTION)
    assert torch.equal(inputs["pixel_values_videos"], expected["pixel_values_videos"])
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    torch.testing.assert_close(
        inputs["input_features"][:, :1600], expected["input_features"][:, :1600], rtol=0, atol=0.3
    )


def test_sound_is_eight_stretches_of_the_clip(heard: Path) -> None:
    (whole,) = read_sound(heard)
    steps = np.round(whole * 2**15) / 2**15
    starts = [int(second * 16_000) for second in np.linspace(0, len(whole) / 16_000 - 2, 8)]
    expected = np.concatenate([steps[start : start + 32_000] for start in starts])
    assert 320_000 <= len(whole) < 321_000
    found = load_clip_audio(heard)
    assert found is not None
    assert np.array_equal(found, expected.astype(np.float32))
    in_memory = load_clip_audio(steps.astype(np.float32))
    assert in_memory is not None
    assert np.array_equal(in_memory, expected.astype(np.float32))


def test_a_short_sound_is_heard_eight_times(tmp_path: Path) -> None:
    tone = rising_tone(0.5)
    found = load_clip_audio(write_sound(tmp_path / "short.wav", [tone]))
    assert found is not None
    np.testing.assert_allclose(found, np.tile(tone, 8), atol=1e-4)


def test_sound_alone(processor: Any, tmp_path: Path) -> None:
    tone = rising_tone(31)
    path = write_sound(tmp_path / "two.wav", [tone, np.zeros_like(tone)])
    inputs = processor(audio=path, text=QUESTION)
    assert inputs["input_ids"].tolist() == [prompt([AUDIO] * 1496)]
    assert set(inputs) == {"input_ids", "attention_mask", "input_features"}
    # The first channel, from the beginning.
    np.testing.assert_allclose(load_audio(path, 30.0), tone[:480_000], atol=1e-4)
    same = processor(audio=load_audio(path, 30.0), text=QUESTION, sampling_rate=16_000)
    assert torch.equal(same["input_features"], inputs["input_features"])


def test_a_picture_stands_still_for_a_whole_clip(processor: Any) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    inputs = processor(image=picture, text=QUESTION)
    assert inputs["input_ids"].tolist() == [prompt([IMAGE] * 16)]
    assert inputs["pixel_values"].shape == (1, 8, 3, 56, 56)
    assert set(map_of(inputs).modality[0, 14:30].tolist()) == {int(Modality.IMAGE)}
    one = processor.image_processor(images=picture, return_tensors="pt").pixel_values
    assert torch.equal(inputs["pixel_values"], one[:, None].expand(-1, 8, -1, -1, -1))


def test_pictures_without_their_sound_and_with_another(processor: Any, heard: Path) -> None:
    alone = processor(video=heard, text=QUESTION, sound=False)
    assert alone["input_ids"].tolist() == [prompt([VIDEO] * 16)]
    assert "input_features" not in alone
    other = processor(video=heard, audio=CLIPS_PATH / "single.mp4", text=QUESTION)
    own = processor(video=heard, text=QUESTION)
    assert torch.equal(other["input_ids"], own["input_ids"])
    assert not torch.equal(other["input_features"], own["input_features"])


def test_text_alone(processor: Any) -> None:
    inputs = processor(text="yes?")
    assert inputs["input_ids"].tolist() == [ids_of(f"{SYSTEM}yes?{END}")]
    assert set(inputs) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("tagged", [f"<video>\n{QUESTION}", f"{SYSTEM}<video>\n{QUESTION}{END}"])
def test_a_text_may_say_where_the_medium_goes(processor: Any, heard: Path, tagged: str) -> None:
    assert torch.equal(
        processor(video=heard, text=tagged)["input_ids"],
        processor(video=heard, text=QUESTION)["input_ids"],
    )


def test_chats(processor: Any, heard: Path, mute: Path) -> None:
    def chat(path: Path, *more: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": "video", "path": str(path)}, *more, {"type": "text", "text": QUESTION}]
        return [{"role": "user", "content": content}]

    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    expected = processor(video=heard, text=QUESTION)
    for more in ((), ({"type": "audio"},)):
        found = processor.apply_chat_template(
            chat(heard, *more), add_generation_prompt=True, **options
        )
        for name in expected:
            assert torch.equal(found[name], expected[name]), name
    batch = processor.apply_chat_template(
        [chat(heard), chat(mute)], add_generation_prompt=True, **options
    )
    both = processor(video=[heard, mute], text=[QUESTION, QUESTION])
    assert torch.equal(batch["input_ids"], both["input_ids"])
    turns = [
        *chat(mute),
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "no?"},
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        f"{SYSTEM}<video>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        f"<|im_start|>user\nno?{END}"
    )
    own = [{"role": "system", "content": "Which?"}, {"role": "user", "content": "yes"}]
    text = processor.apply_chat_template(own, tokenize=False, add_generation_prompt=False)
    assert text == "<|im_start|>system\nWhich?<|im_end|>\n<|im_start|>user\nyes<|im_end|>\n"


def test_saved_processor_is_the_same(processor: Any, heard: Path, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    processors: Any = AutoProcessor
    (tmp_path / "config.json").write_text('{"model_type": "videollama2_qwen2", "text_config": {}}')
    again = processors.from_pretrained(tmp_path)
    assert type(again) is VideoLlama2Processor
    one, two = (p(video=heard, text=QUESTION) for p in (processor, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert again.video_token_id == VIDEO
    assert set(again.model_input_names) >= set(one)


def test_what_was_generated_can_be_read(processor: Any, heard: Path) -> None:
    ids = processor(video=heard, text=QUESTION)["input_ids"]
    read = processor.batch_decode(ids, skip_special_tokens=True)[0]
    assert "What is heard" in read.replace("  ", " ")


def test_frames_that_are_missing_are_black(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may end before its index says."""
    first = list(pick_frames(CLIPS_PATH / "single.mp4", 8))[:3]
    module = "fastav_plugin.model_overrides.videollama2.processing.pick_frames"
    monkeypatch.setattr(module, lambda source, count: first)
    found = processor(video="cut off", text=QUESTION, sound=False)["pixel_values_videos"][0]
    assert (found[3:] == -1).all()
    assert not (found[:3] == -1).all()
