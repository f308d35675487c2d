"""The model of TGI's own loop: its forward pass prunes, everything else is inherited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastav_plugin.model_overrides.tgi.batch import Requests, batch_class
from fastav_plugin.model_overrides.tgi.generation import Generation
from fastav_plugin.model_overrides.tgi.kv_budget import supported_tokens
from fastav_plugin.model_overrides.tgi.loading import LoadedModel

if TYPE_CHECKING:
    from text_generation_server.models.causal_lm import CausalLM as Stock
else:
    Stock = object


class PrunedCausalLM(Stock):
    """What a CausalLM does otherwise; `generate_token` is TGI's own.

    Args:
        loaded: the model, attached, and what reads its prompts.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        from text_generation_server.models.model import Model

        self.quantize = None
        self.loaded = loaded
        self.generation = Generation(loaded.head, loaded.config)
        self.batch_class = batch_class(loaded.reader, loaded.ranks)
        # Not CausalLM's, which loads weights of TGI's own modelling code.
        Model.__init__(
            self,
            model_id=loaded.model_id,
            model=loaded.head,
            tokenizer=loaded.tokenizer,
            requires_padding=True,
            dtype=loaded.dtype,
            device=loaded.device,
            rank=loaded.rank,
            world_size=loaded.world_size,
            speculate=0,
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past_key_values: Any
    ) -> tuple[Tensor, None, Requests]:
        """Prefill a batch of new requests, or decode one token of each.

        Returns:
            float [B, 1, vocabulary], no speculative logits, and the requests' Requests.
        """
        if past_key_values.prompts is not None:
            logits, cache = self.generation.prefill(past_key_values.prompts)
            return logits, None, Requests(cache=cache)
        cache = past_key_values.cache
        logits = self.generation.decode(input_ids, attention_mask, position_ids, cache)
        return logits, None, past_key_values

    def warmup(
        self, batch: Any, max_input_tokens: int | None, max_total_tokens: int | None
    ) -> tuple[int | None, int, int]:
        """Run the warm-up batch as TGI does, and say how many tokens fit into the free memory.

        Returns:
            tokens of all requests together, as the router counts them (unpruned), or None where
            the free memory is unknown; the longest prompt and the longest request.
        """
        _, longest_input, longest = super().warmup(batch, max_input_tokens, max_total_tokens)
        del batch
        return supported_tokens(self.loaded, longest), longest_input, longest


def serve_model(loaded: LoadedModel) -> Any:
    """The model object that a shard serves, of TGI's classes and these."""
    from text_generation_server.models.causal_lm import CausalLM

    return type("FastAVCausalLM", (PrunedCausalLM, CausalLM), {})(loaded)
