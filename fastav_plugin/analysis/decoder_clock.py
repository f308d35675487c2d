"""How long a model's decoder takes for a prompt, without the encoders before it."""

from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from fastav_plugin.analysis.measured_run import now
from fastav_plugin.model_overrides import find_override


class DecoderClock:
    """Times the first forward of the module that runs the decoder layers, while it is entered.

    What the plugin does in that forward, selection, scoring and gathering, is part of it: enter
    the clock before the model is bound, so that its hook comes first.

    Attributes:
        seconds: of the first forward; None before it.
    """

    def __init__(self, head: Any) -> None:
        self.seconds: float | None = None
        self._decoder = find_override(head).parts(head).text_model
        self._device = head.device
        self._handles: list[RemovableHandle] = []
        self._since: float | None = None

    def __enter__(self) -> "DecoderClock":
        self._handles = [
            self._decoder.register_forward_pre_hook(self._start, prepend=True),
            self._decoder.register_forward_hook(self._stop),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _start(self, module: nn.Module, args: Any) -> None:
        if self._since is None:
            self._since = now(self._device)

    def _stop(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.seconds is None and self._since is not None:
            self.seconds = now(self._device) - self._since
