"""Any other transformers model, after a probe on a tiny copy of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.base import ModelOverride

#: Set by the probe room: why a model's class fails the probe, or None if it passes.
_probe: Callable[[nn.Module, ModelOverride], str | None] | None = None

#: Verdicts by class of the text model: a probe is run once.
_verdicts: dict[type[nn.Module], str | None] = {}


def set_probe(probe: Callable[[nn.Module, ModelOverride], str | None]) -> None:
    """Let a higher room say how a model is probed."""
    global _probe
    _probe = probe


class GenericOverride(ModelOverride):
    """The common contract, believed only after a probe. Media are found by placeholder ids."""

    def admit(self, model: nn.Module) -> None:
        text_model = self.find_text_model(model)
        self.check_text_model(text_model)
        kind = type(text_model)
        if kind not in _verdicts:
            assert _probe is not None
            _verdicts[kind] = _probe(model, self)
        reason = _verdicts[kind]
        if reason is not None:
            raise UnsupportedError(
                f"No override for model_type {model.config.model_type!r}, and the probe of its "
                f"text model failed: {reason}. Add an override with register_override()."
            )
