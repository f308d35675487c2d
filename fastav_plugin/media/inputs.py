"""Files into the inputs of generate(), through a checkpoint's own processor."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.files import Source, logger
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.media.video import FRAMES_PER_SECOND

#: Seconds that a codec may add to a sound, which nobody misses.
_PADDING = 0.2
#: Seconds: a shorter sound is followed by silence, or it would give no token.
_SHORTEST = 0.2
#: The part of a processor that takes each kind of medium, and the keyword it is given by.
PARTS = {"image": "image_processor", "video": "video_processor", "audio": "feature_extractor"}
ARGUMENTS = {"image": "images", "video": "videos", "audio": "audio"}
#: How the sound of a video file is used.
SOUND = ("separate", "interleaved", "none")


@dataclass
class Media:
    """Pictures and sounds of one prompt."""

    images: list[Frames] = field(default_factory=list)  # uint8 [H, W, 3] each
    frames: Frames | None = None  # uint8 [T, H, W, 3] of the video, `fps` per second
    fps: float = float(FRAMES_PER_SECOND)
    waveform: Waveform | None = None  # float32 [n] at 16 kHz
    interleaved: bool = False  # whether the sound is the video's and goes between its frames


def read_media(
    *,
    images: list[Path],
    video: Path | None,
    audio: Path | None,
    fps: float = float(FRAMES_PER_SECOND),
    max_frames: int | None = None,
    sound: str = "separate",
    allow_damaged: bool = False,
    processor: Any = None,
) -> Media:
    """Read picture, video and sound files.

    Of the video `fps` frames are taken of each second, at most `max_frames`, spread evenly.
    `audio` goes before the video's own sound, which is used as `sound` says, one of SOUND. With
    `allow_damaged` what can be decoded of a damaged file is used. Of a sound no more is read than
    the `processor` uses, where one is given.
    """
    media = Media(images=[read_image(Source(path, allow_damaged)) for path in images], fps=fps)
    if video is not None:
        file = ClipFile(Source(video, allow_damaged))
        _remark_still(file)
        takes_sound = processor is None or hasattr(processor, "feature_extractor")
        wanted = takes_sound and sound != "none" and audio is None
        most = _most_sound(processor, file) if wanted else 0.0
        clip = read_video(file, fps, max_frames, sound_seconds=most)
        media.frames, media.fps = clip.frames, clip.fps
        if clip.waveform is not None:
            media.waveform, media.interleaved = clip.waveform, sound == "interleaved"
    if audio is not None:
        file = ClipFile(Source(audio, allow_damaged))
        most = _most_sound(processor, file)
        (media.waveform,) = file.sound(None if most is None else [(0.0, most)])
        if not len(media.waveform):
            raise ConfigError(f"Cannot read the media file '{audio}': no sound could be decoded.")
        missing = round(_SHORTEST * SAMPLE_RATE) - len(media.waveform)
        media.waveform = np.pad(media.waveform, (0, max(0, missing)))
    return media


def _remark_still(file: ClipFile) -> None:
    """Say that what was given as a video does not move."""
    if file.is_still:
        logger.warning(
            "%s: it is a picture, and used as a video that stands still; `--image` takes pictures.",
            file.source.name,
        )


def _most_sound(processor: Any, file: ClipFile) -> float | None:
    """Seconds of a file's sound that a processor uses; None for all of it."""
    extractor = getattr(processor, "feature_extractor", None)
    if extractor is None or not file.has_sound:
        return None
    length = getattr(extractor, "n_samples", None)
    if length is None:
        option = inspect.signature(type(extractor).__call__).parameters.get("max_length")
        length = None if option is None else option.default
    if not isinstance(length, int) or file.sound_seconds <= length / SAMPLE_RATE + _PADDING:
        return None
    if not _cuts_off(processor, length):
        return None
    seconds = length / SAMPLE_RATE
    message = "%s: the model's processor takes the first %g s of its sound, which lasts %.1f s."
    logger.warning(message, file.source.name, seconds, file.sound_seconds)
    return seconds


def _cuts_off(processor: Any, length: int) -> bool:
    """Whether a processor makes the same of a sound that goes on after so many samples."""
    import torch

    message = {"role": "user", "content": [{"type": "audio"}]}
    noise = np.random.default_rng(0).normal(0, 0.1, length + SAMPLE_RATE).astype(np.float32)
    try:
        text = processor.apply_chat_template([message], tokenize=False)
        short, long = (
            dict(processor(text=[text], audio=[sound], return_tensors="pt"))
            for sound in (noise[:length], noise)
        )
    except Exception:  # whatever is wrong is said of the sound itself
        return False
    return short.keys() == long.keys() and all(torch.equal(short[k], long[k]) for k in short)


def prepare_prompt(processor: Any, media: Media, question: str) -> dict[str, Any]:
    """Make the inputs of generate() for one question about some media.

    Raises:
        UnsupportedError: media that the processor does not take, or no chat template.
    """
    takes = {
        "images": hasattr(processor, "image_processor"),
        "video": hasattr(processor, "video_processor"),
        "audio": hasattr(processor, "feature_extractor"),
    }
    given = {
        "images": bool(media.images),
        "video": media.frames is not None,
        # The sound of a video is left out where the model takes no audio.
        "audio": media.waveform is not None and (takes["audio"] or media.frames is None),
    }
    for kind, present in given.items():
        if present and not takes[kind]:
            taken = ", ".join(name for name, yes in takes.items() if yes) or "text alone"
            raise UnsupportedError(f"{type(processor).__name__} takes no {kind}, only {taken}.")
    if not getattr(processor, "chat_template", None):
        raise UnsupportedError(
            f"{type(processor).__name__} has no chat template. Add chat_template.jinja to the "
            "checkpoint's folder."
        )
    interleaved = given["audio"] and given["video"] and media.interleaved
    content = [{"type": "image"} for _ in media.images]
    content += [{"type": "video"}] if given["video"] else []
    content += [{"type": "audio"}] if given["audio"] and not interleaved else []
    message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    text = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if media.images:
        arguments["images"] = as_pictures(processor, media.images)
    if media.frames is not None:
        arguments |= video_arguments(processor, [(media.frames, media.fps)])
    if given["audio"]:
        arguments["audio"] = [media.waveform]
    if interleaved:
        arguments |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
    bos = getattr(processor.tokenizer, "bos_token", None)
    if bos and text.startswith(bos):
        arguments["add_special_tokens"] = False
    inputs = dict(processor(**arguments))
    if interleaved:
        inputs["use_audio_in_video"] = True
    return inputs


def prepare_files(
    processor: Any,
    question: str,
    *,
    images: list[Path],
    video: Path | None,
    audio: Path | None,
    frames: int | None = None,
    sound: str = "separate",
    allow_damaged: bool = False,
) -> dict[str, Any]:
    """Make the inputs of generate() with one of our processors, which read files themselves.

    They sample `frames` of the video, or the checkpoint's number, and lay sound out as the model
    was trained. `audio` goes before the video's own sound, which `sound="none"` leaves out.

    Raises:
        ConfigError: a file that cannot be read, or media the model does not take together.
    """
    if len(images) > 1:
        raise ConfigError(f"{type(processor).__name__} takes one picture, got {len(images)}.")

    def source(path: Path | None) -> Source | None:
        return None if path is None else Source(path, allow_damaged)

    if video is not None:
        _remark_still(ClipFile(Source(video, allow_damaged)))
    return dict(
        processor(
            text=question,
            image=source(images[0]) if images else None,
            video=source(video),
            audio=source(audio),
            num_frames=frames,
            sound=sound != "none",
        )
    )


def as_pictures(processor: Any, images: Sequence[Frames]) -> list[Any]:
    """Pictures as a processor of transformers reads them without a guess at their layout.

    Of an array that is one or three pixels high it takes the first axis for the channels.

    Args:
        processor: a checkpoint's.
        images: uint8 [H, W, 3] each.

    Returns:
        Pictures of Pillow.

    Raises:
        UnsupportedError: such a picture, and an image processor that guesses all the same.
    """
    from PIL import Image

    # Those of transformers' two backends know a picture of Pillow; three older ones do not.
    if not hasattr(processor.image_processor, "process_image"):
        for image in images:
            if image.shape[0] in (1, 3):
                raise UnsupportedError(
                    f"{type(processor.image_processor).__name__} misreads pictures that are 1 or 3 "
                    f"pixels high, got {image.shape[0]} x {image.shape[1]}."
                )
    return [Image.fromarray(image) for image in images]


def video_arguments(processor: Any, clips: Sequence[tuple[Frames, float]]) -> dict[str, Any]:
    """Keywords of a processor of transformers for frames that were already sampled.

    Each clip is its frames, uint8 [T, H, W, 3], and how many of them make a second.
    """
    import torch
    from transformers.video_utils import VideoMetadata

    metadata = [
        VideoMetadata(
            total_num_frames=len(frames),
            fps=fps,
            duration=len(frames) / fps,
            height=frames.shape[1],
            width=frames.shape[2],
            frames_indices=list(range(len(frames))),
        )
        for frames, fps in clips
    ]
    options: dict[str, Any] = {
        "do_sample_frames": False,
        "input_data_format": "channels_first",
        "video_metadata": metadata,
        "fps": float(clips[0][1]),  # `at_own_rates` corrects what is made of it
    }
    # A processor class may have a size of its own that goes before the checkpoint's.
    size = getattr(processor.video_processor, "size", None)
    edges = {name: getattr(size, name, None) for name in ("shortest_edge", "longest_edge")}
    if all(edges.values()):
        options["size"] = edges
    videos = [torch.from_numpy(frames).permute(0, 3, 1, 2) for frames, _ in clips]  # [T, 3, H, W]
    return {"videos": videos, "videos_kwargs": options}


def at_own_rates(inputs: Any, rates: Sequence[float]) -> None:
    """Correct inputs of clips with different rates, in place.

    Processors of Qwen Omni take one rate for all clips; others go by the metadata of each.

    Args:
        inputs: what a processor made with `video_arguments`.
        rates: frames per second of each clip.
    """
    if "video_second_per_grid" in inputs:
        for index, rate in enumerate(rates):
            inputs["video_second_per_grid"][index] *= rates[0] / rate
