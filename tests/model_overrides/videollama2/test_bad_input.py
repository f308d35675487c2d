"""What cannot be answered is one error that says why; what can be is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, detach
from fastav_plugin.lab.bench.clock import forget_peak_memory, peak_memory
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from fastav_plugin.model_overrides.videollama2.media import load_clip_audio, pick_frames
from tests.model_overrides.videollama2.checkpoint import tiny_model, tokenizer
from tests.model_overrides.videollama2.clips import rising_tone, write_heard, write_sound
from tests.support.cache_names import passing

QUESTION = "What is heard in this clip?"
CLIP = CLIPS_PATH / "single.mp4"


@pytest.fixture(scope="module")
def model() -> Any:
    found = tiny_model()
    found.generation_config.eos_token_id = None
    found.generation_config.pad_token_id = 34
    return found


def answer(model: Any, inputs: Any, **settings: Any) -> Any:
    cache = FastAVCache(FastAVConfig.for_model(model, min_media_tokens=1, **settings))
    try:
        model.generate(**inputs, **passing(cache), max_new_tokens=3, do_sample=False)
    finally:
        detach(model)
    return cache.report(row=None)


def test_a_clip_without_sound_is_answered(processor: Any, model: Any, mute: Path) -> None:
    report = answer(model, processor(video=mute, text=QUESTION))
    assert report.modality_per_layer["video"][0][0] == 16
    assert report.modality_per_layer["video"][0][-1] < 16
    assert "audio" not in report.modality_per_layer or not any(
        report.modality_per_layer["audio"][0]
    )


def test_text_alone_is_answered_and_not_cut(processor: Any, model: Any) -> None:
    report = answer(model, processor(text="yes?"))
    assert "no media" in report.reason


def test_a_file_without_pictures(processor: Any, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "sound.wav", [rising_tone(1)])
    with pytest.raises(ConfigError, match="sound.wav' holds no pictures. Pass a sound as `audio`"):
        processor(video=path, text=QUESTION)


def test_a_mute_file_as_a_sound(processor: Any, mute: Path) -> None:
    with pytest.raises(ConfigError, match="mute.mp4' holds no sound"):
        processor(audio=mute, text=QUESTION)


@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_files_that_are_no_media(processor: Any, tmp_path: Path, kind: str) -> None:
    empty, text, cut = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "cut.mp4"
    empty.write_bytes(b"")
    text.write_text("not a clip")
    cut.write_bytes(CLIP.read_bytes()[:20_000])
    for path in (empty, text, cut, tmp_path / "absent.mp4"):
        with pytest.raises(ConfigError, match=f"Cannot read the media file '.*{path.name}'"):
            processor(text=QUESTION, **{kind: path})


def test_a_clip_of_no_frames(processor: Any, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "nothing.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(ConfigError, match="holds no pictures"):
        processor(video=tmp_path / "nothing.mp4", text=QUESTION)
    with pytest.raises(ConfigError, match="frames .* got ndarray of shape"):
        processor(video=np.zeros((0, 8, 8, 3), np.uint8), text=QUESTION)
    with pytest.raises(ConfigError, match="holds no sound"):
        processor(audio=np.zeros(0, np.float32), text=QUESTION)


def test_a_single_frame_is_enough(processor: Any, model: Any, tmp_path: Path) -> None:
    path = write_heard(tmp_path / "blink.mp4", 1 / 8)
    report = answer(model, processor(video=path, text=QUESTION))
    assert report.modality_per_layer["video"][0][0] == 16


def write_film(path: Path, minutes: int) -> Path:
    """One picture in ten seconds; a tone, and from the middle on silence."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=1)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.options = {"preset": "ultrafast", "threads": "1"}
        sound = container.add_stream("flac", rate=8_000, layout="mono")
        for minute in range(minutes):
            for second in range(0, 60, 10):
                grey = np.full((48, 64, 3), minute * 120 // minutes, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts = 60 * minute + second
                container.mux(video.encode(frame))
            samples = np.full((1, 8_000 * 60), 8_000 if minute < minutes / 2 else 0, np.int16)
            samples[:, ::2] *= -1
            piece = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            piece.sample_rate, piece.pts = 8_000, minute * 480_000
            container.mux(sound.encode(piece))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("minutes", [20, pytest.param(120, marks=pytest.mark.slow)])
def test_a_film_is_never_held(tmp_path: Path, minutes: int) -> None:
    path = write_film(tmp_path / "film.mkv", minutes)
    forget_peak_memory()
    before = peak_memory()
    if before is None:
        pytest.skip("the platform does not report the peak memory of a process")
    frames = list(pick_frames(path, 8))
    sound = load_clip_audio(path)
    after = peak_memory()
    assert after is not None
    greys = [float(frame.mean()) for frame in frames]
    np.testing.assert_allclose(greys, [7, 22, 37, 52, 67, 82, 97, 112], atol=6)
    assert sound is not None
    assert len(sound) == 256_000
    loud = np.abs(sound).reshape(8, -1).max(axis=1) > 0.01
    assert loud.tolist() == [True] * 4 + [False] * 4
    # The whole sound would be 77 MB for twenty minutes.
    assert after - before < 40_000_000


def test_two_media_in_one_prompt(processor: Any) -> None:
    with pytest.raises(ConfigError, match="2 media of kind video for 1 texts.*one medium per"):
        processor(video=[CLIP, CLIP], text=QUESTION)
    with pytest.raises(ConfigError, match="one medium per prompt, got 2 of kind video"):
        processor(video=[[CLIP, CLIP]], text=[QUESTION])
    with pytest.raises(ConfigError, match=r"tags \['video', 'video'\].*one medium per prompt"):
        processor(video=CLIP, text=f"<video>\n<video>\n{QUESTION}")
    with pytest.raises(ConfigError, match="a picture, or a clip and its sound: not both"):
        processor(video=CLIP, image=CLIP, text=QUESTION)


def test_text_and_media_that_do_not_fit(processor: Any) -> None:
    with pytest.raises(ConfigError, match=r"tags \['video'\] and the medium is missing"):
        processor(text=f"<video>\n{QUESTION}")
    with pytest.raises(ConfigError, match=r"tags \['audio'\] and the medium is video"):
        processor(video=CLIP, text=f"<audio>\n{QUESTION}")
    with pytest.raises(ConfigError, match=r"tags \[\] and the medium is video"):
        processor(video=CLIP, text=f"<|im_start|>user\n{QUESTION}<|im_end|>\n")
    with pytest.raises(ConfigError, match="`text` is missing"):
        processor(video=CLIP)
    with pytest.raises(ConfigError, match="`num_frames` must be at least 2, got 1"):
        processor(video=CLIP, text=QUESTION, num_frames=1)
    with pytest.raises(ConfigError, match="`num_frames` must be at most 32, got 64"):
        processor(video=CLIP, text=QUESTION, num_frames=64)
    for text in ([], [1], 1):
        with pytest.raises(ConfigError, match="`text` must be a question or a list of questions"):
            processor(text=text)
    with pytest.raises(ConfigError, match="`sampling_rate` must be 16000, got 8000"):
        processor(audio=rising_tone(1), text=QUESTION, sampling_rate=8_000)
    with pytest.raises(ConfigError, match=r"samples \[n\] at 16000 Hz, got ndarray of shape"):
        processor(audio=np.zeros((2, 9), np.float32), text=QUESTION)


def test_a_tokenizer_that_reaches_the_placeholders(processor: Any) -> None:
    large = tokenizer()
    large.add_tokens([f"word{number}" for number in range(60)])
    with pytest.raises(ConfigError, match="placeholders begin at 77"):
        type(processor)(
            processor.image_processor,
            processor.feature_extractor,
            large,
            image_token_id=77,
            video_token_id=78,
            audio_token_id=79,
        )


def test_ids_of_another_prompt(processor: Any, model: Any) -> None:
    inputs = processor(video=CLIP, text=QUESTION)
    changed = dict(inputs) | {"input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, 20] = 5
    with pytest.raises(ConfigError, match="hold 15 video tokens and the media make 16"):
        model(**changed)
    changed["input_ids"][0, 20] = -201
    with pytest.raises(ConfigError, match="holds -201.*VideoLlama2Processor"):
        model(**changed)
    with pytest.raises(ConfigError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(attention_mask=torch.ones(1, 4))


@pytest.mark.parametrize(
    ("forgotten", "message"),
    [
        (("pixel_values_videos",), "hold 16 video tokens and the media make 0"),
        (("input_features",), "hold 1496 audio tokens and the media make 0"),
        (("pixel_values_videos", "input_features"), "hold 16 video tokens and the media make 0"),
    ],
)
def test_media_that_were_forgotten(
    processor: Any, model: Any, forgotten: tuple[str, ...], message: str
) -> None:
    """Their placeholders are no words."""
    inputs = dict(processor(video=CLIP, text=QUESTION))
    for name in forgotten:
        del inputs[name]
    for call, options in ((model, {}), (model.generate, {"max_new_tokens": 1})):
        with pytest.raises(ConfigError, match=message):
            call(**inputs, **options)


def test_ids_of_the_authors_without_media(model: Any) -> None:
    with pytest.raises(ConfigError, match="holds -201.*VideoLlama2Processor"):
        model(input_ids=torch.tensor([[3, -201, 4]]))
