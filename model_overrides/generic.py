"""Any other transformers model, if a tiny copy of it passes a probe."""

from typing import Any

from torch import nn
from typing_extensions import override

from fastav_plugin import upcalls
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.unsupported import REASONS

#: Why a model cannot be pruned, or None; and whether its scores can be read.
Verdict = tuple[str | None, bool]

#: Verdicts by class of the text model, kinds of its layers, whether it has a sliding window, and
#: how few layers it has: a probe is run once for each.
_verdicts: dict[tuple[type[nn.Module], frozenset[str], bool, int], Verdict] = {}


class GenericOverride(ModelOverride):
    """The common contract, if the model passes a probe. Media are found by placeholder ids."""

    @override
    def refusal(self, config: Any) -> str | None:
        return REASONS.get(getattr(config, "model_type", "")) or super().refusal(config)

    @override
    def admit(self, model: nn.Module) -> None:
        reason, _ = self._verdict(model)
        config: Any = model.config
        if reason is not None:
            raise UnsupportedError(
                f"The text model of model_type {config.model_type!r} did not pass its probe: "
                f"{reason}. Add an override with register_override()."
            )

    @override
    def scores_allowed(self, head: nn.Module) -> bool:
        _, scores = self._verdict(head)
        return scores and super().scores_allowed(head)

    def _verdict(self, model: nn.Module) -> Verdict:
        text_model = self.find_text_model(model)
        config: Any = text_model.config
        kinds = getattr(config, "layer_types", None) or ("full_attention",)
        window = bool(getattr(config, "sliding_window", None))
        few = min(int(config.num_hidden_layers), 3)
        kind = (type(text_model), frozenset(kinds), window, few)
        if kind not in _verdicts:
            _verdicts[kind] = upcalls.probe(model)
        return _verdicts[kind]
