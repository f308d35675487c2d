"""One chat of a request: its media read, and then the inputs of generate() made of it."""

import re
from collections.abc import Callable
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.media.clips import Video
from fastav_plugin.media.inputs import ARGUMENTS, PARTS, at_own_rates, video_arguments
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.media.video import FRAMES_PER_SECOND
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.measuring import Sampling
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.media.references import Reference
from fastav_plugin.serving.request_body import check_kind
from fastav_plugin.upstream.server import FRAMES

#: Where a block of a message has each kind of medium.
_KEYS = {
    "image": ("image", "url", "path", "base64"),
    "video": ("video", "url", "path"),
    "audio": ("audio", "url", "path"),
}
#: A video processor's arguments for sampling a file, which the reader does.
_SAMPLING = ("fps", "num_frames", "do_sample_frames", "video_metadata")

#: Frames of each second that a request may ask for.
_FASTEST = 240

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: Bytes without an address, as transformers takes them; what is shorter is a path.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){16,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def takes(processor: Any) -> frozenset[str]:
    """The kinds of media that a processor takes."""
    return frozenset(kind for kind, part in PARTS.items() if hasattr(processor, part))


class Chat:
    """One chat for a processor of transformers.

    Of a video as many pictures a second are taken as the request's or the processor's `fps` says,
    at most two, and two where neither says; at most the request's `num_frames`, spread evenly. Its
    sound stands after it, where the model takes sound.

    Args:
        processor: of the model.
        policy: what the messages may name.
        stock: the processor's own apply_chat_template.
        conversation: the messages, with the addresses of their media.
        arguments: keywords of apply_chat_template, those of the processor among them.

    Raises:
        ConfigError: there are media among the arguments, or such frames cannot be taken.
    """

    def __init__(
        self,
        processor: Any,
        policy: MediaPolicy,
        stock: Callable[..., Any],
        conversation: list[dict[str, Any]],
        arguments: dict[str, Any],
    ) -> None:
        self.conversation = conversation
        self._processor, self._policy, self._stock = processor, policy, stock
        self._budget = MediaBudget(policy)
        self._arguments = {**arguments, **(arguments.get("processor_kwargs") or {})}
        self._arguments.pop("processor_kwargs", None)
        # A processor's arguments for media; in a chat they would go past the reader.
        for name in (*ARGUMENTS, *ARGUMENTS.values()):
            if name in self._arguments:
                raise ConfigError(f"`{name}` is no argument of a chat. Media go into its messages.")
        self._of_videos = dict(self._arguments.pop("videos_kwargs", None) or {})
        fps, self._frames, *_ = (self._pop(name) for name in _SAMPLING)
        fps = fps or getattr(getattr(processor, "video_processor", None), "fps", None)
        self._sampling = _sampling(fps or FRAMES_PER_SECOND, self._frames)
        # The server asks for it where its model may be one that takes sound.
        self._sound = bool(self._pop("load_audio_from_video")) and "audio" in takes(processor)
        self._messages: list[dict[str, Any]] = []
        self._clips: list[Video] = []

    @property
    def names_media(self) -> bool:
        """Whether there is anything to read."""
        contents = (message.get("content") for message in self.conversation)
        blocks = (block for content in contents if isinstance(content, list) for block in content)
        return any(map(_sources, blocks))

    def read(self) -> None:
        """Read the media.

        Raises:
            FastAVError: one is refused or damaged, or of a kind that the model does not take.
        """
        self._messages = [self._message(message) for message in self.conversation]

    def inputs(self) -> Any:
        """What apply_chat_template returns, of the messages that were read."""
        if self._clips:
            self._place_clips()
        arguments = dict(self._arguments)
        if self._of_videos:
            # Elsewhere than here transformers warns of arguments of the processor.
            arguments["processor_kwargs"] = {"videos_kwargs": self._of_videos}
        made = self._stock(self._messages, **arguments)
        if self._clips:
            at_own_rates(made, [clip.fps for clip in self._clips])
        return made

    def _place_clips(self) -> None:
        """Put frames where clips are, and what is said of them among the arguments."""
        clips = [(clip.frames, clip.fps) for clip in self._clips]
        made = video_arguments(self._processor, clips)
        videos = iter(made["videos"])
        for message in self._messages:
            for block in message["content"]:
                if isinstance(block, dict) and isinstance(block.get("video"), Video):
                    block["video"] = next(videos)
        # A size that the request names goes before that of the checkpoint.
        named = self._of_videos.keys() | self._arguments.keys()
        options = made["videos_kwargs"].items()
        self._of_videos |= {name: value for name, value in options if name not in named}

    def _pop(self, name: str) -> Any:
        """Take an argument out of where it may stand."""
        places = (self._of_videos, self._arguments)
        found = [place.pop(name) for place in places if name in place]
        return found[0] if found else None

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        blocks = []
        for block in content:
            sources = _sources(block)
            for source in sources:
                blocks += self._read(_reference(block["type"], source, self._policy))
            if not sources:
                blocks.append(block)
        return {**message, "content": blocks}

    def _read(self, reference: Reference) -> list[dict[str, Any]]:
        """The blocks that stand for a medium in its message."""
        kind = reference.kind
        check_kind(kind, takes(self._processor), type(self._processor).__name__)
        medium = self._budget.load(reference, self._sampling)
        if kind == "audio":
            return [self._audio(medium.waveform)]
        blocks = [{"type": kind, kind: medium}]
        if kind == "video":
            self._clips.append(medium)
            if self._sound and medium.waveform is not None:
                blocks.append(self._audio(medium.waveform))
        return blocks

    def _audio(self, waveform: Waveform) -> dict[str, Any]:
        rate = getattr(self._processor.feature_extractor, "sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            name = type(self._processor).__name__
            raise UnsupportedError(
                f"{name} takes sound of {rate} samples per second; {SAMPLE_RATE} are read."
            )
        return {"type": "audio", "audio": waveform}


class OwnChat(Chat):
    """One chat for a processor of this package, which samples files itself."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._files: dict[str, list[Any]] = {}
        self._inputs: Any = None

    def read(self) -> None:
        """Read the media.

        Raises:
            FastAVError: one is refused or damaged, or the model does not take it.
        """
        super().read()
        arguments = {**self._arguments, "tokenize": False, "return_dict": False}
        text = self._stock(self._messages, **arguments)
        files = {ARGUMENTS[kind]: [found] for kind, found in self._files.items()}
        # The server's own default is not asked for: these models were trained on other numbers.
        frames = None if self._frames == FRAMES else self._frames
        self._inputs = self._processor(text=[text], num_frames=frames, **files)

    def inputs(self) -> Any:
        """What the processor returned."""
        return self._inputs

    def _read(self, reference: Reference) -> list[dict[str, Any]]:
        self._files.setdefault(reference.kind, []).append(self._budget.source(reference))
        return [{"type": reference.kind}]


def _sampling(fps: Any, frames: Any) -> Sampling:
    """What a request asks for; ConfigError where that is none."""
    numbers = not isinstance(fps, bool) and isinstance(fps, int | float) and 0 < fps <= _FASTEST
    if not numbers or not (frames is None or (isinstance(frames, int) and frames >= 2)):
        raise ConfigError(
            f"A chat takes `fps` above 0, at most {_FASTEST}, and `num_frames` of at least 2, got "
            f"{fps} and {frames}."
        )
    return Sampling(float(fps), frames)


def _sources(block: Any) -> list[str]:
    """What a block of a message names; none where the medium itself is in it, or it is a text."""
    keys = _KEYS.get(str(block.get("type")), ()) if isinstance(block, dict) else ()
    for key in keys:
        if isinstance(block.get(key), int | float | list | dict):
            raise ConfigError(f"`{key}` of a message must be an address, got {block[key]!r}.")
    return [block[key] for key in keys if isinstance(block.get(key), str)]


def _reference(kind: str, source: str, policy: MediaPolicy) -> Reference:
    """What a message names: an address, a file below the media folder, or the bytes themselves."""
    if _SCHEME.match(source):
        return Reference(kind, source)
    packed, folder = "".join(source.split()), policy.media_dir
    is_file = folder is not None and len(source) < 4096 and (folder / source).is_file()
    if _BASE64.fullmatch(packed) and not is_file:
        return Reference(kind, f"data:{kind}/*;base64,{packed}")
    return Reference(kind, source)
