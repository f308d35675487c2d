"""The media of a chat, read by this package's reader in place of transformers' loaders.

The server gives the messages of a request to its processor's `apply_chat_template`, with the
address of each medium. `MessageMedia` wraps that method of the processors it is given: media are
read first, as `fastav generate` reads them, and stand in the messages as pictures, frames that are
sampled already and samples of sound, which transformers hands to the processor as they are.
"""

import functools
import re
import weakref
from collections.abc import Callable
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.media.clips import Video
from fastav_plugin.media.inputs import video_arguments
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.media.video import FRAMES_PER_SECOND
from fastav_plugin.model_overrides.own_models.registry import own_model
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.media.references import Reference
from fastav_plugin.upstream.server import FRAMES

#: Where a block of a message may have its medium.
_KEYS = {
    "image": ("image", "url", "path", "base64"),
    "video": ("video", "url", "path"),
    "audio": ("audio", "url", "path"),
}
#: The part of a processor that takes each kind.
_PARTS = {"image": "image_processor", "video": "video_processor", "audio": "feature_extractor"}
#: Arguments of a processor that would bring media past the reader.
_MEDIA_ARGUMENTS = ("images", "videos", "audio", "image", "video")
#: Arguments that say which frames of a video are taken; the reader has taken them.
_SAMPLING = ("fps", "num_frames", "do_sample_frames", "video_metadata")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: Bytes without an address, as transformers takes them; a shorter text is a path.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){16,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class MessageMedia:
    """Wraps `apply_chat_template` of processors, so that this package reads their media.

    Args:
        policy: what requests may name.
    """

    def __init__(self, policy: MediaPolicy) -> None:
        self._policy = policy
        self._wrapped: weakref.WeakSet[Any] = weakref.WeakSet()

    def wrap(self, processor: Any, config: Any) -> None:
        """Read the media of a processor's chats from now on; one of text alone stays as it is.

        Args:
            processor: of the model.
            config: of the model.
        """
        if processor in self._wrapped or not _takes(processor):
            return
        stock = processor.apply_chat_template
        kind = _Chat if own_model(config) is None else _OwnChat

        @functools.wraps(stock)
        def apply_chat_template(conversation: Any, **arguments: Any) -> Any:
            if not arguments.get("tokenize"):
                return stock(conversation, **arguments)
            chat = kind(processor, self._policy, arguments)
            return chat.apply(stock, conversation)

        vars(processor)["apply_chat_template"] = apply_chat_template
        self._wrapped.add(processor)

    def unwrap(self) -> None:
        """Leave every processor as it was."""
        for processor in self._wrapped:
            del vars(processor)["apply_chat_template"]
        self._wrapped.clear()


class _Chat:
    """One chat for a processor of transformers.

    Args:
        processor: of the model.
        policy: what the messages may name.
        arguments: keywords of apply_chat_template, those of the processor among them.
    """

    def __init__(self, processor: Any, policy: MediaPolicy, arguments: dict[str, Any]) -> None:
        self.processor, self.policy, self.budget = processor, policy, MediaBudget(policy)
        self.arguments = {**arguments, **(arguments.get("processor_kwargs") or {})}
        self.arguments.pop("processor_kwargs", None)
        for name in _MEDIA_ARGUMENTS:
            if name in self.arguments:
                raise ConfigError(f"`{name}` is no argument of a chat. Media go into its messages.")
        self.of_videos = dict(self.arguments.pop("videos_kwargs", None) or {})
        given = [self.arguments, self.of_videos]
        fps, self.most, *_ = (_pop(given, name) for name in _SAMPLING)
        fps = fps or getattr(getattr(processor, "video_processor", None), "fps", None)
        self.fps = float(fps or FRAMES_PER_SECOND)
        # transformers' server wants the sound of videos where its model might take any.
        self.sound = bool(_pop(given, "load_audio_from_video")) and "audio" in _takes(processor)
        self.clips: list[Video] = []

    def apply(self, stock: Callable[..., Any], conversation: Any) -> Any:
        """What the processor's own apply_chat_template makes of the chat."""
        messages = [self._message(message) for message in conversation]
        if self.clips:
            clips = [(clip.frames, clip.fps) for clip in self.clips]
            made = video_arguments(self.processor, clips)
            videos = iter(made["videos"])
            for message in messages:
                for block in message["content"]:
                    if isinstance(block.get("video"), Video):
                        block["video"] = next(videos)
            # The size of the request goes before that of the checkpoint.
            named = self.of_videos.keys() | self.arguments.keys()
            options = {k: v for k, v in made["videos_kwargs"].items() if k not in named}
            self.of_videos = {**self.of_videos, **options}
        if self.of_videos:
            self.arguments["videos_kwargs"] = self.of_videos
        return stock(messages, **self.arguments)

    def read(self, reference: Reference) -> list[dict[str, Any]]:
        """The blocks that stand for a medium in its message."""
        kind = reference.kind
        medium = self.budget.load(reference, self.most)
        if kind == "audio":
            return [{"type": kind, kind: self._at_rate(medium.waveform)}]
        blocks = [{"type": kind, kind: medium}]
        if kind == "video":
            self.clips.append(medium)
            if self.sound and medium.waveform is not None:
                blocks.append({"type": "audio", "audio": self._at_rate(medium.waveform)})
        return blocks

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        blocks = []
        for block in content:
            kind = block["type"]
            sources = [block[key] for key in _KEYS.get(kind, ()) if isinstance(block.get(key), str)]
            if not sources:
                blocks.append(block)
                continue
            if kind not in _takes(self.processor):
                taken = ", ".join(sorted(_takes(self.processor)))
                raise UnsupportedError(
                    f"{type(self.processor).__name__} takes no {kind}, only {taken}."
                )
            for source in sources:
                blocks += self.read(_reference(kind, source, self.policy))
        return {**message, "content": blocks}

    def _at_rate(self, waveform: Waveform) -> Waveform:
        rate = getattr(self.processor.feature_extractor, "sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise UnsupportedError(
                f"{type(self.processor).__name__} takes sound at {rate} samples per second, and "
                f"is given {SAMPLE_RATE}."
            )
        return waveform


class _OwnChat(_Chat):
    """One chat for a processor of this package, which samples files itself."""

    def __init__(self, processor: Any, policy: MediaPolicy, arguments: dict[str, Any]) -> None:
        super().__init__(processor, policy, arguments)
        self.files: dict[str, list[Any]] = {kind: [] for kind in _KEYS}

    def apply(self, stock: Callable[..., Any], conversation: Any) -> Any:
        """What the processor makes of the text of the chat and of its files."""
        messages = [self._message(message) for message in conversation]
        text = stock(messages, **{**self.arguments, "tokenize": False, "return_dict": False})
        names = {"image": "images", "video": "videos", "audio": "audio"}
        files = {names[kind]: [found] for kind, found in self.files.items() if found}
        # The server's own default is no wish of the request: these models were trained on another.
        frames = None if self.most == FRAMES else self.most
        return self.processor(text=[text], num_frames=frames, return_tensors="pt", **files)

    def read(self, reference: Reference) -> list[dict[str, Any]]:
        """The block that stands for a medium in its message."""
        self.files[reference.kind].append(self.budget.source(reference))
        return [{"type": reference.kind}]


def _takes(processor: Any) -> frozenset[str]:
    """The kinds of media that a processor takes."""
    return frozenset(kind for kind, part in _PARTS.items() if hasattr(processor, part))


def _pop(given: list[dict[str, Any]], name: str) -> Any:
    """Take an argument out of where it may stand; the first one that is there."""
    found = [arguments.pop(name) for arguments in given if name in arguments]
    return found[0] if found else None


def _reference(kind: str, source: str, policy: MediaPolicy) -> Reference:
    """What a message names: an address, a file below the media folder, or the bytes themselves."""
    if _SCHEME.match(source):
        return Reference(kind, source)
    folder, packed = policy.media_dir, "".join(source.split())
    if _BASE64.fullmatch(packed) and (folder is None or not (folder / source[:4096]).is_file()):
        return Reference(kind, f"data:{kind}/*;base64,{packed}")
    return Reference(kind, source)
