"""What a request to transformers' server must hold, checked before its handlers look for it.

They take what they need out of the body without a check, so that a client's mistake would be an
error of the server; and they leave out parts of a kind that they do not know, or that the model
does not take.
"""

import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError, did_you_mean

#: The body of the request that a context answers.
current_body: ContextVar[Mapping[str, Any]] = ContextVar("fastav_request_body")

#: Parts of a message: the key of what they hold, and the kind of medium that is.
_PARTS = {
    "text": ("text", "text"),
    "input_text": ("text", "text"),
    "output_text": ("text", "text"),
    "image_url": ("image_url", "image"),
    "input_image": ("image_url", "image"),
    "video_url": ("video_url", "video"),
    "audio_url": ("audio_url", "audio"),
    "input_audio": ("input_audio", "audio"),
}
#: What a request asks is under one of these.
_ASKED = ("messages", "input", "prompt")
#: Numbers that a request may hold, with the least of each.
_NUMBERS: dict[str, tuple[type[int] | type[float], int]] = {
    "max_tokens": (int, 1),
    "max_completion_tokens": (int, 1),
    "max_output_tokens": (int, 1),
    "temperature": (float, 0),
    "top_p": (float, 0),
    "seed": (int, 0),
}
#: Those whose address the handlers take from an object alone.
_IN_OBJECT = ("video_url", "audio_url")


class UntakenError(UnsupportedError):
    """A medium of a kind that the model's processor does not take."""

    #: In one word, for counters.
    reason = "not_taken"


def check_body(body: Mapping[str, Any]) -> None:
    """Make sure that the messages of a request hold what they say.

    Raises:
        ConfigError: they do not; with the place in the body.
    """
    name = "input" if "input" in body else "messages"
    messages = body.get(name)
    if isinstance(messages, str):  # the Responses API takes a text alone
        return
    if not isinstance(messages, list) or not messages:
        raise ConfigError(f"`{name}` must be a list of messages, got {messages!r:.80}.")
    for place, message in _numbered(name, messages):
        if not isinstance(message, dict):
            raise ConfigError(f"{place} must be an object, got {message!r:.80}.")
        content = message.get("content")
        if "content" not in message and "type" in message:
            # Of the Responses API: a part of one message, or an item that is no message.
            if message["type"] in _PARTS:
                _check_part(place, message)
            continue
        if not isinstance(message.get("role"), str):
            raise ConfigError(f"{place} has no `role`, such as 'user'.")
        if content is not None and not isinstance(content, str | list):
            raise ConfigError(f"{place}: `content` must be a text or a list of parts.")
        if isinstance(content, list):
            for where, part in _numbered(f"{place[1:-1]}.content", content):
                _check_part(where, part)


def check_settings(body: Mapping[str, Any]) -> None:
    """Make sure that the settings of a request are numbers where the handlers take numbers.

    Raises:
        ConfigError: one is not, or there is nothing to answer.
    """
    if not any(body.get(name) for name in _ASKED):
        raise ConfigError(f"The request must hold one of {', '.join(_ASKED)}.")
    for name, (kind, least) in _NUMBERS.items():
        if body.get(name) is None:
            continue
        try:
            fits = kind(body[name]) >= least
        except (TypeError, ValueError):
            fits = False
        if not fits:
            what = "an integer" if kind is int else "a number"
            raise ConfigError(
                f"`{name}` must be {what} of at least {least}, got {body[name]!r:.80}."
            )
    text = body.get("generation_config")
    if text is not None and not _is_object(text):
        raise ConfigError(f"`generation_config` must be a JSON object in a text, got {text!r:.80}.")


def check_kinds(body: Mapping[str, Any], taken: frozenset[str], processor: str) -> None:
    """Refuse media of kinds that the model's processor does not take.

    Args:
        body: as of `check_body`.
        taken: kinds of media that are taken.
        processor: its name.

    Raises:
        UntakenError: there are others.
    """
    messages = body.get("messages", body.get("input"))
    found = [message for message in messages or () if isinstance(message, dict)]
    contents = [message.get("content") for message in found]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    for part in (*found, *parts):
        kind = _PARTS.get(part.get("type"), ("", "text"))[1]
        check_kind(kind, taken, processor)


def check_kind(kind: str, taken: frozenset[str], processor: str) -> None:
    """Refuse a medium of a kind that a processor, given by its name, does not take.

    Raises:
        UntakenError: neither text nor among those that are taken.
    """
    if kind not in {*taken, "text"}:
        raise UntakenError(f"{processor} takes no {kind}, only {', '.join(sorted(taken))}.")


def _is_object(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (TypeError, ValueError):
        return False


def _numbered(name: str, items: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"`{name}[{number}]`", item) for number, item in enumerate(items))


def _check_part(place: str, part: Any) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise ConfigError(f"{place} must be an object with a `type`, got {part!r:.80}.")
    if kind == "refusal":  # of an earlier answer; the handlers leave it out
        return
    if kind not in _PARTS:
        guess = did_you_mean(kind, _PARTS)
        raise ConfigError(
            f"{place} has the unknown type {kind!r}.{guess} Known: {', '.join(_PARTS)}."
        )
    key, medium = _PARTS[kind]
    held = part.get(key)
    if medium == "text":
        if not isinstance(held, str):
            raise ConfigError(f"{place} has the type {kind!r} and no `{key}`.")
        return
    inner = "data" if key == "input_audio" else "url"
    whole = isinstance(held, dict) and isinstance(held.get(inner), str)
    if not whole and (key in _IN_OBJECT or not isinstance(held, str)):
        raise ConfigError(
            f'{place} has the type {kind!r} and must hold {{"{key}": {{"{inner}": "..."}}}}.'
        )
