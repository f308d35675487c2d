"""The text around a medium: the authors' prompt, and where the medium stands in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastav_plugin.errors import ConfigError

KINDS = ("image", "video", "audio")
_TAG = re.compile(r"<(image|video|audio)>")
_TURN = "<|im_start|>"

#: ChatML as the decoder's tokenizer has it; a medium is one tag on a line of its own. The sound
#: of a clip goes with the clip's tag.
CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}
{%- else %}
{%- set kinds = message.content | map(attribute='type') | list %}
{%- for item in message.content %}
{%- if item.type == 'text' %}{{ item.text }}
{%- elif item.type != 'audio' or 'video' not in kinds %}<{{ item.type }}>
{% endif %}
{%- endfor %}
{%- endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def is_chat(text: str) -> bool:
    """Whether a text already holds turns."""
    return text.startswith(_TURN)


def tag_question(question: str, kind: str | None) -> str:
    """A question, or a chat, with exactly the tag of its medium.

    Args:
        question: what is asked; a plain one without a tag gets it in front.
        kind: of the medium, or None without one.

    Raises:
        ConfigError: tags that do not fit the medium.
    """
    tags = _TAG.findall(question)
    if kind is not None and not tags and not is_chat(question):
        return f"<{kind}>\n{question}"
    if tags != ([] if kind is None else [kind]):
        raise ConfigError(
            f"The text has the tags {tags} and the medium is {kind or 'missing'}. VideoLLaMA2 "
            "takes one medium per prompt; its tag stands once, or is left out."
        )
    return question


def split_at_tag(text: str) -> list[str]:
    """What stands before the medium and after it."""
    return _TAG.split(text)[::2]


def one_each(texts: Sequence[str], kind: str, media: Any) -> list[Any]:
    """The medium of each text, or None.

    Raises:
        ConfigError: more than one for a text, or another number than of texts.
    """
    if media is None:
        return [None] * len(texts)
    if not isinstance(media, (list, tuple)):
        media = [media]
    # A chat gives a list of media per conversation.
    found = []
    for item in media:
        if isinstance(item, (list, tuple)):
            if len(item) > 1:
                raise ConfigError(
                    f"VideoLLaMA2 takes one medium per prompt, got {len(item)} of kind {kind}. "
                    "Ask about each on its own."
                )
            item = item[0] if item else None
        found.append(item)
    if len(found) != len(texts):
        raise ConfigError(
            f"{len(found)} media of kind {kind} for {len(texts)} texts. Give one for each text, "
            "None where there is none; VideoLLaMA2 takes one medium per prompt."
        )
    return found
