"""Whose configuration a config.json is that calls itself "qwen2_5_vl"."""

from __future__ import annotations

from typing import Any

from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig
from typing_extensions import override

from fastav_plugin.model_overrides.video_salmonn2.configuration import VideoSalmonn2PlusConfig


class SharedQwen2_5_VLConfig(Qwen2_5_VLConfig):  # noqa: N801
    """Reads a config.json of 2+ as 2+, and any other of this type as Qwen2.5-VL.

    For AutoConfig, which has one class per type, while the authors of 2+ kept their base's type.
    There is never an instance of this class: what it makes is what transformers makes itself.

    It states the module of Qwen2_5_VLConfig as its own. AutoConfig tells by a class's module name
    alone whether it takes the place of a folder's own trusted code, and offers no other way to
    register a class that does not.
    """

    @override
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return Qwen2_5_VLConfig(*args, **kwargs)

    @classmethod
    @override
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        ours = VideoSalmonn2PlusConfig.claims(config_dict)
        kind = VideoSalmonn2PlusConfig if ours else Qwen2_5_VLConfig
        return kind.from_dict(config_dict, **kwargs)


SharedQwen2_5_VLConfig.__module__ = Qwen2_5_VLConfig.__module__
