"""The model that a request runs on: its modules, and what must be known about it."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from fastav_plugin.flops import LayerCost
from fastav_plugin.layers.attention import takes_2d_masks
from fastav_plugin.layers.tensor_parallel import ALONE, Ranks, find_ranks, refuse_stages
from fastav_plugin.model_overrides.base import ModelOverride, Parts
from fastav_plugin.pruning.model_identity import ModelIdentity, WeightSample, decoder_sizes
from fastav_plugin.upstream.arguments import (
    check_deepstack,
    check_head,
    check_layer,
    check_text_model,
)


@dataclass(frozen=True)
class Decoder:
    """What a prefill must know about the decoder layers.

    Attributes:
        num_layers: L.
        flash: whether the attention implementation takes 2-D masks.
        row_arguments: further keywords of the layers with one entry per token, [B, T].
        ranks: the processes that share the attention heads.
        cost: sizes of one layer, for the account of what choosing costs; None for no account.
    """

    num_layers: int
    flash: bool = False
    row_arguments: tuple[str, ...] = ()
    ranks: Ranks = ALONE
    cost: LayerCost | None = None


@dataclass(frozen=True, eq=False)
class Origin:
    """The model that filled a cache which was saved, as far as it is saved with it.

    Attributes:
        identity: what tells it from others.
        cost: sizes of one of its decoder layers.
    """

    identity: ModelIdentity
    cost: LayerCost


@dataclass(frozen=True, eq=False)
class BoundModel(Parts):
    """The modules of a model that hooks were put on, and what is known about it.

    Attributes:
        override: knowledge about its family.
        ranks: the processes that share the attention heads.
    """

    override: ModelOverride
    ranks: Ranks

    @classmethod
    def of(cls, head: nn.Module, override: ModelOverride) -> "BoundModel":
        """Find the modules of a model, which must be what the engine knows how to prune."""
        refuse_stages(head)
        parts = override.parts(head)
        check_head(head)
        check_text_model(parts.text_model)
        for layer in {type(layer): layer for layer in parts.layers}.values():
            check_layer(layer)
        if override.deepstack_layers(head.config):
            check_deepstack(parts.text_model)
        override.check_text_model(parts.text_model)
        ranks = find_ranks(head, parts.attentions, override.text_config(head.config))
        return cls(**vars(parts), override=override, ranks=ranks)

    @property
    def config(self) -> Any:
        """Configuration of the head."""
        return self.head.config

    @property
    def decoder(self) -> Decoder:
        """What a prefill must know, with the attention implementation of this moment."""
        flash = takes_2d_masks(self.attention_implementation)
        names = self.override.row_arguments
        return Decoder(len(self.layers), flash, names, self.ranks, self.cost)

    @property
    def cost(self) -> LayerCost:
        """Sizes of one decoder layer, for the FLOPs account."""
        return self.override.cost(self.config)

    def origin(self) -> Origin:
        """What a cache that this model filled is saved with."""
        sizes = decoder_sizes(self.override.text_config(self.config))
        return Origin(ModelIdentity(sizes, WeightSample.of(self.layers)), self.cost)

    def windows(self) -> list[int | None]:
        """Sliding window of each layer, in tokens, or None."""
        return [self.override.window(self.config, layer) for layer in range(len(self.layers))]
