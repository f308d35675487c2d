"""Configurations that refuse settings whichever way they come in."""

from __future__ import annotations

from typing import Any


class CheckedConfig:
    """Mixin of a PreTrainedConfig: what is changed after the constructor is checked too."""

    def check(self) -> None:
        """Refuse values that the model cannot have.

        Raises:
            ConfigError: such a value.
        """
        raise NotImplementedError

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, which sets keywords one by one after the constructor."""
        found = super().from_dict(config_dict, **kwargs)  # type: ignore[misc]
        (found[0] if isinstance(found, tuple) else found).check()
        return found
