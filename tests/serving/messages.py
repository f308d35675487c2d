"""Messages in the form of OpenAI's API about one clip of the testbed, and who sends them."""

from __future__ import annotations

import base64
import io
import json
import shutil
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
import openai
from PIL import Image

from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.sound import SAMPLE_RATE

CLIP = SAMPLES[0].path
#: Long enough that a wrong row somewhere would show.
TOKENS = 12
SETTINGS = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}


class Parts:
    """The media of a clip as parts of a message: from files where it says so, else inline.

    Attributes:
        folder: where the files are.
    """

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        frames, waveform = read_clip(CLIP)
        self.frames, self.waveform = frames, waveform
        self.picture_file, self.sound_file = folder / "picture.png", folder / "sound.wav"
        Image.fromarray(frames[5]).save(self.picture_file)
        with wave.open(str(self.sound_file), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes())
        self.picture = _part("image_url", f"data:image/png;base64,{_base64(self.picture_file)}")
        self.picture_from_file = _part("image_url", str(self.picture_file))
        data = {"data": _base64(self.sound_file), "format": "wav"}
        self.sound: dict[str, Any] = {"type": "input_audio", "input_audio": data}
        self.sound_from_file = _part("audio_url", str(self.sound_file))
        shutil.copy(CLIP, folder / "clip.mp4")
        self.video_from_file = _part("video_url", "clip.mp4")
        self.inline_video = _part("video_url", f"data:video/mp4;base64,{_base64(CLIP)}")


def picture_url(url: str) -> dict[str, Any]:
    """A picture by its address."""
    return _part("image_url", url)


def _part(kind: str, url: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": url}}


def _base64(path: Any) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def noise(seed: int) -> dict[str, Any]:
    """A picture of its own, so that no two requests are alike."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return picture_url(f"data:image/png;base64,{data}")


def user(*parts: dict[str, Any], text: str) -> dict[str, Any]:
    """A message of the user's."""
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def ask(
    client: openai.OpenAI,
    model: str,
    messages: Sequence[dict[str, Any]],
    stream: bool = False,
    chat_template_kwargs: dict[str, Any] | None = None,
    seed: int | None = None,
    **settings: Any,
) -> str:
    """The answer of a server, whole or put together from its stream.

    `settings` are of the generation; the other arguments are fields of the request.
    """
    wanted = {**SETTINGS, **settings}
    completions: Any = client.chat.completions
    answer = completions.create(
        model=model,
        messages=messages,
        stream=stream,
        extra_body={
            "generation_config": json.dumps(wanted),
            "chat_template_kwargs": chat_template_kwargs or {},
            **({} if seed is None else {"seed": seed}),
        },
    )
    if stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    return str(answer.choices[0].message.content)
