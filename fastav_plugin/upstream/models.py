"""Models made from a configuration, and configurations made of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig, configuration_utils

from fastav_plugin.upstream.releases import missing


def from_config(model_class: Any, config: Any, **options: Any) -> Any:
    """A model with random weights, of the dtype and attention that its config asks for.

    Raises:
        UnsupportedError: this release has no such constructor.
    """
    make = getattr(model_class, "_from_config", None)
    if make is None:
        raise missing(f"the method {model_class.__name__}._from_config")
    return make(config, **options)


class ConfigOfParts:
    """Mixin of a PreTrainedConfig with other configurations as fields, put before it.

    transformers 5.20 builds them from a declaration; 5.19 leaves that to each class.

    Attributes:
        parts: class of each field, and the settings of one that is not given.
    """

    parts: ClassVar[Mapping[str, tuple[type[PreTrainedConfig], Mapping[str, Any]]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        declare: Any = cls
        if _SPEC is None:
            declare.sub_configs = {name: kind for name, (kind, _) in cls.parts.items()}
        else:
            declare.sub_configs_defaults = {
                name: _SPEC(kind, init_kwargs=dict(settings))
                for name, (kind, settings) in cls.parts.items()
            }
        super().__init_subclass__(**kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        if _SPEC is None:
            for name, (kind, settings) in self.parts.items():
                given = getattr(self, name)
                if given is None or isinstance(given, dict):
                    setattr(self, name, kind(**(settings if given is None else given)))
        super().__post_init__(**kwargs)  # type: ignore[misc]


_SPEC: Any = getattr(configuration_utils, "SubConfigSpec", None)
