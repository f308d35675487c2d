"""The probe a model without an override must pass: a tiny random copy, cut and compared.

The copy is built from the text model's own class and configuration with small sizes, so the
user's weights are never run. It must be called as the common contract says, give the same bits
when all tokens are kept, and the same numbers as a dense run that hides the dropped ones.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache
from typing_extensions import override

from fastav_plugin.binding.binding import Binding
from fastav_plugin.cache import FastAVCache
from fastav_plugin.compatibility.tiny_copy import tiny_copy
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError, UnsupportedError
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import (
    HIDDEN,
    MASK,
    OF_TEXT_MODELS,
    POSITIONS,
    ROTARY,
    argument_names,
    cache_in,
    cache_name,
    cache_of,
)
from fastav_plugin.upstream.attention import only_looked_up

CUT = 2
#: Prompt length of the probe; a prime, so that it cannot be mistaken for a size of the model.
LENGTH = 37
TOLERANCE = 1e-4


class _DropThird(LayerHook):
    """Drops every third media token at one place; reads scores only to see that they come."""

    name = "probe"

    def __init__(self, place: int, needs_scores: bool) -> None:
        self.place = place
        self.needs_scores = needs_scores
        self.seen: Tensor | None = None

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({self.place})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        self.seen = view.scores
        return view.positions % 3 != 0


class _Trusting(ModelOverride):
    """The common contract, with nothing refused beforehand: the probe finds out."""

    @override
    def scores_allowed(self, head: nn.Module) -> bool:
        return True


def probe(model: nn.Module) -> tuple[str | None, bool]:
    """Why a model cannot be pruned, or None, and whether its attention hands over scores."""
    override = _Trusting()
    text_model = override.find_text_model(model)
    unknown = set(argument_names(text_model)) - OF_TEXT_MODELS
    if unknown:
        return f"its text model takes unknown arguments ({', '.join(sorted(unknown))})", False
    try:
        # The process's random state stays as it is, and its default device does not matter.
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the GPUs too
            tiny = tiny_copy(text_model)
            cut = min(CUT, len(override.parts(tiny).layers) - 1)
            reason = _compare(tiny, override, ENTRANCE)
            if cut > 0:
                reason = reason or _compare(tiny, override, cut)
            # With one layer no hook reads scores.
            scores = reason is None and (cut == 0 or _scores_are_honest(tiny, override, cut))
    except FastAVError as error:
        return str(error), False
    except Exception as error:
        # A model never seen before may fail anywhere; it may also be memory, so no verdict is kept.
        raise UnsupportedError(
            f"The probe of {type(text_model).__name__} failed: {type(error).__name__}: {error}. "
            "Add an override with register_override()."
        ) from error
    return reason, scores


def _embeddings(tiny: Any, step: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1 + step)
    shape = (1, 1 if step else LENGTH, tiny.config.hidden_size)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def _outputs(tiny: nn.Module, cache: Any) -> list[Tensor]:
    """Last hidden state of a prefill and two decode steps."""
    found = []
    for step in range(3):
        output = tiny(
            inputs_embeds=_embeddings(tiny, step),
            **{cache_name(): cache},
            position_ids=torch.arange(LENGTH + step)[None, -1 if step else 0 :],
            use_cache=True,
        )
        cache = cache_in(output)
        found.append(output.last_hidden_state[:, -1])
    return found


def _pruned(tiny: nn.Module, override: ModelOverride, hooks: LayerHookList) -> tuple[Any, Any]:
    """Outputs with a FastAVCache, and the cache."""
    tokens = TokenMap.from_spans(LENGTH, image=[(5, LENGTH - 5)])
    cache = FastAVCache(FastAVConfig(hooks=hooks, min_media_tokens=1), tokens, _search=False)
    binding = Binding(tiny, override)
    binding.install()
    try:
        return _outputs(tiny, cache), cache
    finally:
        binding.remove()


def _compare(tiny: nn.Module, override: ModelOverride, place: int) -> str | None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    with _layer_hooks(tiny, lambda index: lambda _, args, kwargs: calls.append((args, kwargs))):
        stock = _outputs(tiny, None)
    if (reason := _contract(calls)) is not None:
        return reason
    kept, _ = _pruned(tiny, override, LayerHookList())
    if not all(torch.equal(a, b) for a, b in zip(stock, kept, strict=True)):
        return "keeping all tokens changed its output"
    cut, cache = _pruned(tiny, override, LayerHookList([_DropThird(place, False)]))
    positions = [layer.positions[0] for layer in cache.layers]
    if len(positions[-1]) >= LENGTH + 2:
        return "a cut dropped nothing"

    def hide(index: int) -> Any:
        return _hiding(index, positions[index], override.window(tiny.config, index))

    with _layer_hooks(tiny, hide):
        # Layers of a cache without a config keep all tokens; the masks do what windows would.
        dense = _outputs(tiny, DynamicCache())
    worst = max(float((a - b).abs().max()) for a, b in zip(cut, dense, strict=True))
    if not worst <= TOLERANCE:
        return f"a cut changed its output by {worst:.1e} against hiding the same tokens"
    return None


def _scores_are_honest(tiny: nn.Module, override: ModelOverride, cut: int) -> bool:
    """Whether the scores handed over are the attention of the last query, heads averaged."""
    for attention in override.parts(tiny).attentions:
        try:
            source = inspect.getsource(type(attention))
        except (OSError, TypeError):  # a class typed into a console has no source to check
            return False
        # The only use of the implementation's name may be to look the function up.
        if not only_looked_up(source):
            return False
    hook = _DropThird(cut, True)
    try:
        _pruned(tiny, override, LayerHookList([hook]))
    except FastAVError:
        return False
    tiny.set_attn_implementation("eager")  # type: ignore[operator]
    output = tiny(inputs_embeds=_embeddings(tiny), output_attentions=True, use_cache=False)
    expected = output.attentions[cut - 1][:, :, -1].mean(dim=1)
    return hook.seen is not None and bool((hook.seen - expected).abs().max() <= TOLERANCE)


def _contract(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> str | None:
    """Whether the layers were called as the engine expects."""
    known = {MASK, POSITIONS, ROTARY, cache_name()}
    for args, kwargs in calls:
        if len(args) > 1 or (not args and HIDDEN not in kwargs):
            return "its layers get more than the hidden states by position"
        missing = {MASK, ROTARY, cache_name()} - kwargs.keys()
        if missing:
            return f"its layers are not given {', '.join(sorted(missing))} by keyword"
        for name, value in kwargs.items():
            if name not in known and isinstance(value, Tensor) and LENGTH in value.shape:
                return f"its layers are given {name}, one entry per token"
    return None


def _hiding(index: int, positions: Tensor, window: int | None) -> Any:
    """A hook of one layer of a dense run, which then sees only the tokens at these positions."""

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        hidden_states = args[0] if args else kwargs[HIDDEN]
        past = cache_of(kwargs).get_seq_length(index)
        columns = torch.arange(past + hidden_states.shape[1])
        queries = columns[past:, None]
        visible = columns <= queries
        if window:
            visible &= columns > queries - window
        visible &= torch.isin(columns, positions) | (columns == queries)
        mask = torch.zeros(visible.shape, dtype=torch.float32)
        mask.masked_fill_(~visible, torch.finfo(torch.float32).min)
        return args, {**kwargs, MASK: mask[None, None]}

    return hook


@contextmanager
def _layer_hooks(tiny: nn.Module, make: Callable[[int], Any]) -> Iterator[None]:
    handles = [
        layer.register_forward_pre_hook(make(index), with_kwargs=True)
        for index, layer in enumerate(tiny.layers)  # type: ignore[arg-type]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
