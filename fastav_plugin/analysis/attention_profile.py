"""What a prompt's tokens attend to, layer by layer: attention and its rollout as row vectors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.attach import detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.functional.rollout import rollout_row
from fastav_plugin.layers.attention import OBSERVER, RenamedAttention
from fastav_plugin.layers.causality import (
    refuse_other_attention,
    refuse_other_mask,
    refuse_softcap,
)
from fastav_plugin.model_overrides import find_override
from fastav_plugin.model_overrides.base import Parts
from fastav_plugin.tokens import TokenMap


@dataclass(frozen=True)
class AttentionProfile:
    """Two rows of each layer's attention matrix A, and of the rollout R up to that layer.

    All are float32 [n], n being the prompt's tokens. R = Ã_l ... Ã_0 with Ã = alpha A +
    (1 - alpha) I and A the head mean.
    """

    layers: list[int]  # ascending
    last_row: list[Tensor]  # `e_last A`: what the last token attends to
    column_sums: list[Tensor]  # `1 A`: what all tokens together attend to
    rollout_last_row: list[Tensor]  # `e_last R`
    rollout_column_sums: list[Tensor]  # `1 R`
    alpha: float
    token_map: TokenMap


def profile_attention(
    model: nn.Module,
    inputs: Mapping[str, Any],
    layers: Sequence[int] | None = None,
    *,
    alpha: float = 0.5,
) -> AttentionProfile:
    """Run an unpruned prefill and read its attention, exactly and without an n x n matrix.

    The model is detached first. `inputs` are one prompt's, without padding; `layers` None means
    at most four, from the first to the last; `alpha` weighs attention against the residual path
    in the rollout, in [0, 1].

    Raises:
        UnsupportedError: attention that cannot be read, or is not causal over the whole prompt.
        ConfigError: a layer that the model does not have, or several prompts.
    """
    detach(model)
    head: Any = unwrap(model)
    override = find_override(head)
    parts = override.parts(head)
    tokens = override.token_map(
        head.config, inputs["input_ids"], inputs.get("attention_mask"), dict(inputs)
    )
    count = len(parts.layers)
    if layers is None:
        layers = torch.linspace(0, count - 1, min(4, count)).round().int().tolist()
    wanted = sorted(set(layers))
    wrong = [layer for layer in wanted if not 0 <= layer < count]
    if wrong or not wanted:
        raise ConfigError(f"The model has layers 0..{count - 1}, got {wrong or 'none'}.")
    if not bool(tokens.valid.all()) or tokens.rows != 1:
        raise ConfigError(
            f"A profile is of one prompt without padding, got batch size {tokens.rows} with "
            f"{int((~tokens.valid).sum())} padding positions."
        )
    if not override.scores_allowed(head):
        raise UnsupportedError(f"The attention of {type(head).__name__} cannot be read.")
    shown = range(wanted[-1] + 1)
    refuse_other_attention(
        parts.attention_implementation,
        [parts.attentions[layer] for layer in shown],
        [override.window(head.config, layer) for layer in shown],
        tokens.length,
    )
    found = _Recorder(len(shown))
    with _recording(parts, found):
        head.generate(**inputs, do_sample=False, max_new_tokens=1)
    n = tokens.length
    both = torch.stack([torch.eye(n)[-1], torch.ones(n)]).to(found.queries[0].device)  # [2, n]

    def rows(first: int, layer: int, weight: float) -> Tensor:
        part = slice(first, layer + 1)
        return rollout_row(
            both, found.queries[part], found.keys[part], weight, scaling=found.scaling
        ).cpu()

    last, sums = zip(*(rows(layer, layer, 1.0) for layer in wanted), strict=True)
    rolled_last, rolled_sums = zip(*(rows(0, layer, alpha) for layer in wanted), strict=True)
    return AttentionProfile(
        wanted, list(last), list(sums), list(rolled_last), list(rolled_sums), alpha, tokens
    )


@dataclass
class _Recorder:
    """Keeps queries and keys of the lowest `count` layers of one prefill.

    A hook with `needs_rollout` sees the layers below a cut only, so never the last one.
    """

    count: int
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    scaling: float | None = None

    def observe(
        self, query: Tensor, keys: Tensor, mask: Any, scaling: float | None, softcap: float | None
    ) -> None:
        """Called inside attention, layer after layer."""
        if len(self.queries) == self.count or query.shape[2] == 1:
            return
        refuse_softcap(softcap)
        refuse_other_mask(mask, None, None, 0)
        self.queries.append(query)
        self.keys.append(keys)
        self.scaling = scaling


@contextmanager
def _recording(parts: Parts, recorder: _Recorder) -> Iterator[None]:
    def ask(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, OBSERVER: recorder}

    renamed = RenamedAttention(parts.attentions)
    handles = [
        layer.register_forward_pre_hook(ask, with_kwargs=True)
        for layer in parts.layers[: recorder.count]
    ]
    try:
        renamed.wrap(parts.attention_implementation)
        yield
    finally:
        renamed.unwrap()
        for handle in handles:
            handle.remove()
