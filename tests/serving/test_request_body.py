"""What a request must hold: what the server's handlers take without a check."""

from __future__ import annotations

from typing import Any

import pytest

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.serving.request_body import check_body, check_kinds, check_settings

TEXT = {"type": "text", "text": "Why?"}
PICTURE = {"type": "image_url", "image_url": {"url": "picture.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


def asking(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    "body",
    [
        asking(TEXT, PICTURE, SOUND),
        asking({"type": "image_url", "image_url": "picture.png"}),
        asking({"type": "video_url", "video_url": {"url": "clip.mp4"}}),
        {"messages": [{"role": "user", "content": "Why?"}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]},
        {"input": "Why?"},
        {"input": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "b"}]},
        {"input": [{"role": "user", "content": "a"}, {"type": "function_call", "name": "f"}]},
    ],
)
def test_what_the_servers_handlers_take(body: dict[str, Any]) -> None:
    check_body(body)
    check_settings(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "`messages` must be a list of messages, got []."),
        ({"messages": "Why?", "input": None}, "`input` must be a list of messages, got None."),
        ({"messages": ["Why?"]}, "`messages[0]` must be an object, got 'Why?'."),
        ({"messages": [{"content": "Why?"}]}, "`messages[0]` has no `role`"),
        ({"messages": [{"role": "user", "content": 3}]}, "`content` must be a text or a list"),
        (asking(TEXT, "Why?"), "`messages[0].content[1]` must be an object with a `type`"),
        (asking({"image_url": {"url": "a"}}), "must be an object with a `type`"),
        (asking({"type": "vdeo_url"}), "'vdeo_url'. Did you mean 'video_url'?"),
        (asking({"type": "text"}), "`messages[0].content[0]` has the type 'text' and no `text`."),
        (asking({"type": "image_url"}), 'must hold {"image_url": {"url": "..."}}.'),
        (asking({"type": "image_url", "image_url": {"uri": "a"}}), "must hold"),
        (asking({"type": "video_url", "video_url": "a.mp4"}), 'hold {"video_url": {"url": "..."}}'),
        (asking({"type": "input_audio", "input_audio": {"url": "a"}}), '{"data": "..."}'),
        ({"input": [TEXT, {"type": "input_image"}]}, "`input[1]` has the type 'input_image'"),
    ],
)
def test_what_they_would_fail_on(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_body(body)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "`max_tokens` must be an integer of at least 1, got 0."),
        ({"max_output_tokens": "many"}, "`max_output_tokens` must be an integer"),
        ({"temperature": "hot"}, "`temperature` must be a number of at least 0, got 'hot'."),
        ({"top_p": [1]}, "`top_p` must be a number"),
        ({"seed": "x"}, "`seed` must be an integer of at least 0"),
        ({"generation_config": {"use_cache": True}}, "`generation_config` must be a JSON object"),
        ({"generation_config": "[1]"}, "must be a JSON object in a text, got '[1]'."),
    ],
)
def test_settings_that_are_none(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings({**asking(TEXT), **settings})
    assert message in str(refused.value)


def test_settings_that_are_left_out_or_sent_as_text() -> None:
    check_settings({"prompt": "Why?", "max_tokens": None, "temperature": "0.5", "seed": 3})
    check_settings({**asking(TEXT), "generation_config": '{"max_new_tokens": 3}'})


def test_a_request_for_nothing() -> None:
    with pytest.raises(ConfigError, match="one of messages, input, prompt"):
        check_settings({"model": "m", "prompt": ""})


def test_media_that_the_model_does_not_take() -> None:
    """The handlers would leave them out."""
    check_kinds(asking(TEXT, PICTURE), frozenset({"image"}), "LlavaProcessor")
    check_kinds({"input": "Why?"}, frozenset(), "LlavaProcessor")
    with pytest.raises(UnsupportedError, match="LlavaProcessor takes no audio, only image"):
        check_kinds(asking(TEXT, SOUND), frozenset({"image"}), "LlavaProcessor")
    flat = {"input": [{"type": "input_image", "image_url": "a"}]}
    with pytest.raises(UnsupportedError, match="takes no image, only audio"):
        check_kinds(flat, frozenset({"audio"}), "Processor")
