"""FastAVCache: the object given to generate() as its cache."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from fastav_plugin.binding.discovery import Discovery, bind_generating
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, StateError, UnsupportedError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.pruning.batching import keep_rows, stack
from fastav_plugin.pruning.prompt_checks import refuse_other_prompt
from fastav_plugin.pruning.request import Request, RowFacts
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.caches import GivenCache
from fastav_plugin.upstream.generation import prompt_given_with


class FastAVCache(GivenCache):
    """A KV cache that prunes the prompt it is filled with.

    Give it to generate(), or to the model, which is found and bound without another call. Each
    layer holds the tokens that layer saw, which differ from layer to layer. Media of a later turn
    are pruned as the first prompt's; what layers hold of earlier turns stays.

        >>> cache = FastAVCache(FastAVConfig(method="divprune", min_media_tokens=16))
        >>> answer = model.generate(**inputs, cache=cache, max_new_tokens=4)
        >>> cache
        FastAVCache(divprune, 6 layers, 31 -> 31 of 47 tokens, FLOPs 61.9 %)

    Make a new one for each prompt: generate() raises StateError where its `input_ids` do not
    continue the prompt that the cache holds. Embeddings, and ids of a new turn alone, are taken
    as they are.

    What generate() returns beside tokens: `scores` and `logits` are as ever, one [B, vocabulary]
    per step. In step 0, `hidden_states[0][l]` is [B, K, C] and `attentions[0][l]` [B, H, K, K]
    with the tokens that went through a layer: K is that layer's entry in
    `report().tokens_per_layer` (the longest prompt's, the others padded on the left). Hidden
    states count one more entry than layers: entry 0 is what entered layer 0, entry l + 1 what
    left layer l. `layers[l].positions[:, :K]` says which prompt position each of them has. Later
    steps have one token; `attentions[step][l]` is [B, H, 1, N] with the N tokens the layer can
    see. Under assisted decoding both are refused.

    It is iterated over, copied, pickled and saved as a DynamicCache is. The model is not saved: the
    next call binds a loaded cache again, in this or another process, and refuses another model
    than the one that filled it.

    The decoding modes that live in hub repositories (contrastive search, DoLa, group and
    constrained beam search) are untested.

    Args:
        config: what to prune; None for `FastAVConfig.for_model` of the model that is found.
        tokens: a TokenMap of the prompt, where `input_ids` do not say what is what.

    Raises:
        ConfigError: unknown method or hook, or arguments of a wrong type.
    Reference: FastAV (arXiv 2601.13143), DivPrune (arXiv 2503.02175).
    """

    def __init__(
        self,
        config: FastAVConfig | None = None,
        tokens: TokenMap | None = None,
        *,
        _search: bool = True,
    ) -> None:
        given = config is not None
        config = FastAVConfig() if config is None else config
        if not isinstance(config, FastAVConfig):
            raise ConfigError(
                f"FastAVCache takes a FastAVConfig first, got {type(config).__name__}. "
                "Use FastAVConfig.for_model(model)."
            )
        request = Request(config, method_hooks(config), RowFacts(given_map=_checked(tokens)))
        request.given_config = given
        super().__init__(layers=request.layers)  # type: ignore[arg-type]
        self.fastav_request = request
        self._discovery: Discovery | None = Discovery(self) if _search else None

    @property
    def config(self) -> FastAVConfig:
        """The settings this cache prunes by."""
        return self.fastav_request.config

    @property
    def tokens(self) -> TokenMap | None:
        """The caller's TokenMap, or None.

        Before a later turn whose media `input_ids` do not tell, set it to the map of the whole
        conversation, the new turn included.
        """
        return self.fastav_request.facts.given_map

    @tokens.setter
    def tokens(self, tokens: TokenMap | None) -> None:
        request = self.fastav_request
        request.facts = dataclasses.replace(request.facts, given_map=_checked(tokens))

    @property
    def token_map(self) -> TokenMap | None:
        """What the conversation's positions are up to its last media; None before prefill."""
        return self.fastav_request.facts.token_map

    @overload
    def report(self, row: int = 0) -> PruningReport: ...

    @overload
    def report(self, row: None) -> PruningReport[list[list[int]]]: ...

    def report(self, row: int | None = 0) -> PruningReport[Any]:
        """Account of the prefill: tokens per layer and modality, FLOPs, KV bytes, or why nothing.

        After a later turn with media, of the conversation up to it, as if it were one prompt.

        Args:
            row: a batch row, or None for all rows.

        Raises:
            StateError: nothing was prefilled yet.
        """
        return self.fastav_request.report(row)

    def __repr__(self) -> str:
        """The method, and in which layer how many tokens are held of how many."""
        return f"FastAVCache({self.fastav_request.describe()})"

    @classmethod
    def stack(cls, caches: Sequence["FastAVCache"]) -> "FastAVCache":
        """Join requests that were prefilled apart into one batch, to be decoded together.

        Batch rows follow in the order of the caches, each padded on the left to the longest, as a
        batch of prompts is, and in each layer to the most tokens that layer holds of one. Call the
        model with an attention_mask or position_ids that count each row from its first real
        token. Reports, TokenMaps and rotary offsets stay those of each row.

        Args:
            caches: of one model and one config; they are empty afterwards.

        Raises:
            StateError: one was not prefilled, or is of another model.
            ConfigError: there is none, or they have different configs.
        """
        first = caches[0].config if caches else FastAVConfig()
        batch = cls(first, _search=False)
        stack([cache.fastav_request for cache in caches], batch.fastav_request)
        return batch

    def keep_rows(self, rows: Tensor) -> None:
        """Keep only these batch rows, and no padding that none of them needs.

        Unlike `batch_select_indices` it may make the batch shorter: positions count from the first
        real token of the longest batch row that stays.

        Args:
            rows: int64 [n], at least one.

        Raises:
            StateError: nothing was prefilled yet.
            ConfigError: no batch row is named.
        """
        keep_rows(self.fastav_request, rows)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def on_given(self) -> None:
        """Refuse to go on with another prompt than the one it holds."""
        given = prompt_given_with(self)
        if given is not None:
            refuse_other_prompt(self.fastav_request, *given)

    # The Cache surface.

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append tokens to one layer; only tokens that a pruning hook announced."""
        current = self.fastav_request.current_layer
        if current is not None and torch.compiler.is_compiling():
            # Compiled layers share their graphs as long as none reads its own number.
            return current.update(key_states, value_states)
        layers = self.fastav_request.layers
        if layer_idx >= len(layers):
            raise StateError(
                f"This FastAVCache has {len(layers)} layers and got tokens for layer {layer_idx}: "
                "no model was bound to it. Call fastav_plugin.attach(model, config) before "
                "compiling or wrapping the model."
            )
        return layers[layer_idx].update(key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Seen tokens, cut or not."""
        if self.fastav_request.origin is not None:
            bind_generating(self)
        layers = self.fastav_request.layers
        return layers[layer_idx].get_seq_length() if layer_idx < len(layers) else 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Size and offset of the mask a model should build, in seen tokens."""
        return self.get_seq_length(layer_idx) + query_length, 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Seen tokens."""
        return self.get_seq_length(layer_idx)

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """No maximum."""
        return -1

    @property
    def is_compileable(self) -> bool:
        """False: layers have different lengths."""
        return False

    @property
    def is_croppable(self) -> bool:
        """True: decoded and drafted tokens can be taken back."""
        return True

    @property
    def is_initialized(self) -> bool:
        """Whether a prompt was prefilled."""
        return any(layer.is_initialized for layer in self.fastav_request.layers)

    @property
    def is_sliding(self) -> list[bool]:
        """All False: every layer keeps its tokens, masks hide what a window cannot see."""
        return [False] * len(self.fastav_request.layers)

    @property
    def batch_size(self) -> int:
        """Batch rows; -1 before prefill."""
        layers = self.fastav_request.layers
        return layers[0].batch_size if layers else -1

    def reset(self) -> None:
        """Forget the request and the model; the cache can be used as if new."""
        if self._discovery is not None:
            self._discovery.close()
        self.fastav_request.clear()
        self._discovery = Discovery(self)

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last `-tokens_to_remove` tokens, in all layers or in none.

        Raises:
            StateError: tokens of the prompt are among them that were pruned.
        """
        request = self.fastav_request
        for layer in request.layers:
            layer.check_crop(tokens_to_remove)
        for layer in request.layers:
            layer.crop(tokens_to_remove)
        request.facts = request.facts.first(request.seen_tokens)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move batch rows for beam search."""
        self.fastav_request.map_rows(lambda rows: rows.index_select(0, beam_idx.to(rows.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each batch row."""
        self.fastav_request.map_rows(lambda rows: rows.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these batch rows."""
        self.fastav_request.map_rows(lambda rows: rows[indices.to(rows.device)])

    def activate_past_recording(self) -> None:
        """Nothing to do: no layer forgets tokens unless asked to."""

    def early_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Refused: lengths are known only after the cuts."""
        raise UnsupportedError("A FastAVCache cannot be allocated early: lengths follow the cuts.")

    def offload(self, *args: Any, **kwargs: Any) -> None:
        """Refused: keys and values are gathered where they lie."""
        raise UnsupportedError("A FastAVCache does not offload its layers.")

    def __iter__(self) -> Iterator[tuple[Tensor | None, ...]]:
        """Keys, values and None of each layer, as of a DynamicCache; it holds no window."""
        yield from DynamicCache.__iter__(self)  # type: ignore[arg-type, no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {"fastav_request": self.fastav_request.saved()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._share(state["fastav_request"])

    def __copy__(self) -> "FastAVCache":
        """A cache with the same layers: what one appends, the other holds."""
        twin = type(self).__new__(type(self))
        twin._share(self.fastav_request)
        return twin

    def _share(self, request: Request) -> None:
        """Take a request, whose model is searched for if there is none."""
        super().__init__(layers=request.layers)  # type: ignore[arg-type]
        self.fastav_request = request
        self._discovery = Discovery(self) if request.model is None else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "FastAVCache":
        """A cache with keys and values of its own, for the same model."""
        request = self.fastav_request
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        # A copied model is bound anew; a copied cache stays with the model it was filled by.
        memo[id(request.model)] = request.model
        twin._share(copy.deepcopy(request, memo))
        return twin


def _checked(tokens: Any) -> TokenMap | None:
    if tokens is not None and not isinstance(tokens, TokenMap):
        raise ConfigError(f"`tokens` must be a TokenMap, got {type(tokens).__name__}.")
    return tokens
