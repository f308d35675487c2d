"""The batch of TGI's own loop, whose requests hold pruned caches.

TGI's bookkeeping (ids, masks, samplers, lengths) is inherited. What differs between layers travels
in `past_key_values`, where the inherited methods find a stand-in of the size they expect.

TGI's classes join these in `batch_class`: this package is importable without TGI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import BatchEncoding

from fastav_plugin.cache import FastAVCache
from fastav_plugin.layers.tensor_parallel import ALONE, Ranks
from fastav_plugin.model_overrides.tgi.prompts import Prompt, PromptReader

if TYPE_CHECKING:
    from text_generation_server.models.causal_lm import CausalLMBatch as Stock
else:
    Stock = object


@dataclass
class Requests:
    """What a batch holds of its requests beside TGI's bookkeeping.

    Attributes:
        prompts: until they are prefilled.
        cache: from then on.
    """

    prompts: list[Prompt] | None = None
    cache: FastAVCache | None = None


class GivenIds:
    """A tokenizer whose prompts were tokenised before, with their media in place.

    Args:
        tokenizer: what answers everything else.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._given: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_tokenizer"], name)

    @contextmanager
    def giving(self, ids: list[Tensor]) -> Iterator[None]:
        """While inside, a call answers with these ids (int64 [T] each)."""
        self._given = ids
        try:
            yield
        finally:
            self._given = []

    def __call__(self, texts: Sequence[str], **options: Any) -> BatchEncoding:
        """The ids given, padded on the left; `texts` are counted only."""
        assert len(texts) == len(self._given)
        longest = max(map(len, self._given))
        pad = self._tokenizer.pad_token_id or 0
        rows = [torch.nn.functional.pad(i, (longest - len(i), 0), value=pad) for i in self._given]
        real = [
            torch.nn.functional.pad(torch.ones_like(i), (longest - len(i), 0)) for i in self._given
        ]
        return BatchEncoding({"input_ids": torch.stack(rows), "attention_mask": torch.stack(real)})


class PrunedBatch(Stock):
    """What a CausalLMBatch does otherwise: its `past_key_values` are Requests.

    Attributes:
        reader: reads the model's requests.
        given_ids: its tokenizer.
        ranks: the shards, which are all called with the same requests.
    """

    reader: PromptReader
    ranks: Ranks
    given_ids: GivenIds

    @classmethod
    def from_pb(cls, pb: Any, tokenizer: Any, dtype: Any, device: Any) -> Any:
        """Read the requests of a Prefill or of the warm-up.

        Raises:
            PromptError, MediaError: one of them cannot be served; nothing was touched.
        """
        from text_generation_server.pb import generate_pb2

        prompts = cls.ranks.first(lambda: [cls.reader.read(request) for request in pb.requests])
        shown = generate_pb2.Batch()
        shown.CopyFrom(pb)
        for request in shown.requests:
            # The media were read; their bytes are not needed again.
            text = generate_pb2.InputChunk(text="")
            request.input_chunks.CopyFrom(generate_pb2.Input(chunks=[text]))
            request.inputs = ""
            # Tokens that were cut have no logits, so a prompt has no log-probabilities.
            request.prefill_logprobs = False
        pad = cls.reader.tokenizer.pad_token_id or 0
        # Penalties look tokens up among the logits, where some placeholders have none.
        ids = [p.ids.masked_fill(p.ids >= cls.reader.vocabulary, pad) for p in prompts]
        with cls.given_ids.giving(ids):
            batch = super().from_pb(shown, cls.given_ids, dtype, device)
        batch.past_key_values = Requests(prompts=prompts)
        return batch

    def filter(self, request_ids: list[int]) -> Any:
        """Keep some requests; the memory of the others is given back."""
        unknown = [i for i in request_ids if i not in self.requests_idx_mapping]
        if unknown:
            raise ValueError(f"The batch has no request {unknown[0]}.")
        if len(request_ids) in (0, len(self)):
            return super().filter(request_ids)
        rows = torch.tensor([self.requests_idx_mapping[i] for i in request_ids])
        with _standing_in(self) as requests:
            super().filter(request_ids)
        requests.cache.keep_rows(rows)
        return self

    @classmethod
    def concatenate(cls, batches: list[Any]) -> Any:
        """Join batches that were prefilled; their caches move into the one returned."""
        if any(getattr(batch.past_key_values, "cache", None) is None for batch in batches):
            raise ValueError("Only batches that were prefilled can be joined.")
        with ExitStack() as stack:
            requests = [stack.enter_context(_standing_in(batch)) for batch in batches]
            joined = super().concatenate(batches)
        caches = [item.cache for item in requests]
        for item in requests:
            item.cache = None
        joined.past_key_values = Requests(cache=FastAVCache.stack(caches))
        return joined


def batch_class(reader: PromptReader, ranks: Ranks = ALONE) -> Any:
    """The class of one model's batches, below TGI's."""
    from text_generation_server.models.causal_lm import CausalLMBatch

    given = GivenIds(reader.tokenizer)
    own = {"reader": reader, "given_ids": given, "ranks": ranks}
    return type("FastAVBatch", (PrunedBatch, CausalLMBatch), own)


@contextmanager
def _standing_in(batch: Any) -> Iterator[Any]:
    """While inside, a batch holds keys and values of one layer, of the sizes TGI computes."""
    requests = batch.past_key_values
    rows = torch.zeros(1).expand(len(batch), 1, max(1, batch.max_input_length - 1), 1)
    batch.past_key_values = [(rows, rows)]
    try:
        yield requests
    finally:
        batch.past_key_values = requests
