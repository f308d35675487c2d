"""The four checks of one family, and the check of a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fastav_plugin import (
    FastAVCache,
    FastAVConfig,
    FastAVError,
    LayerHookList,
    Modality,
    attach,
    detach,
)
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.model_overrides.registry import find_override
from tests.support.cases import (
    TOLERANCE,
    KeepAll,
    check_fine_cut,
    config_of,
    keep_all_config,
    prune,
    reference,
)
from tests.support.families import KNOWN
from tests.support.oracle import run

SHAPES = ("single", "ragged")
#: Read scores; these do not.
SCORED = ("fastav", "fastav+divprune")
PLAIN = ("global_pruning", "divprune")


class Wrong(Exception):
    """A result that a user would have got without a warning."""


@dataclass(frozen=True)
class Outcome:
    """What became of one family.

    Attributes:
        methods: "all", "without scores", or "" if refused.
        reason: why it, or its scores, are refused.
        error: largest difference to masked dense and to batch rows alone.
        media: kinds of media that were in its prompts.
        layers: kinds of its decoder layers.
    """

    methods: str
    reason: str
    error: float = 0.0
    media: tuple[str, ...] = ()
    layers: str = ""


def check(name: str) -> Outcome:
    """Run every check on one family.

    Raises:
        Wrong: a check failed.
        Exception: whatever the stock model raises.
    """
    model = KNOWN[name].model("sdpa")
    reason = _refusal(model, "divprune")
    if reason is not None:
        _check_refusal(name)
        return Outcome("", reason)
    reason = _refusal(model, "fastav")
    methods = PLAIN if reason else PLAIN + SCORED
    stock = {shape: run(model, _inputs(name, shape)) for shape in SHAPES}
    for shape in SHAPES:
        _keeps_all(name, shape, stock[shape], scored=reason is None)
    _text_only(name)
    worst = max(
        _masked_dense(name, shape, method, stock[shape]) for shape in SHAPES for method in methods
    )
    worst = max(worst, *(_eager(name, method) for method in methods))
    if not KNOWN[name].given_map:
        _attached(name)
    label = "without scores" if reason else "all"
    return Outcome(label, reason or "", worst, _media(name), _layers(model))


def _refusal(model: Any, method: str) -> str | None:
    """What attach() raises, or None."""
    try:
        attach(model, FastAVConfig(method=method))
    except FastAVError as error:
        return str(error)
    finally:
        detach(model)
    return None


def _inputs(name: str, shape: str) -> dict[str, Any]:
    family = KNOWN[name]
    return family.batch(getattr(family, shape)())


def _media(name: str) -> tuple[str, ...]:
    rows = KNOWN[name].ragged()
    kinds = sorted({kind for row in rows for kind in row.kinds if kind > Modality.TEXT})
    return tuple(kind.name.lower() for kind in kinds)


def _layers(model: Any) -> str:
    text = model.config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None) or ()
    names = sorted({kind.removesuffix("_attention") for kind in kinds}) or ["full"]
    return ", ".join(names)


def _keeps_all(name: str, shape: str, stock: Any, *, scored: bool) -> None:
    """The same bits in every step, whether nothing is asked or everything is kept."""
    rows = getattr(KNOWN[name], shape)()
    head: Any = unwrap(KNOWN[name].model("sdpa"))
    early = find_override(head).deepstack_layers(head.config)
    hooks = [KeepAll(early=early)] + [KeepAll(scored=True, early=early)] * scored
    configs = [keep_all_config(name, "none")]
    configs.append(config_of(name, "none", hooks=LayerHookList(hooks)))
    configs += [keep_all_config(name, "ratios")] * scored
    for config in configs:
        kept = prune(name, "sdpa", rows, config)
        if not torch.equal(kept.run.logits, stock.logits):
            raise Wrong(f"keeping all rows changed the {shape} logits")


def _text_only(name: str) -> None:
    """A prompt without media is left alone, bit by bit."""
    family = KNOWN[name]
    rows = family.ragged()[-1:]
    stock = run(family.model("sdpa"), family.batch(rows))
    kept = prune(name, "sdpa", rows, config_of(name, "divprune"))
    if not torch.equal(kept.run.logits, stock.logits):
        raise Wrong("a prompt without media changed")
    if kept.cache.report().reason is None:
        raise Wrong("a prompt without media was cut")


def _masked_dense(name: str, shape: str, method: str, stock: Any) -> float:
    """Largest difference to hiding the same tokens, and to each batch row alone."""
    family = KNOWN[name]
    rows = getattr(family, shape)()
    result = prune(name, "sdpa", rows, config_of(name, method))
    dense = reference(name, "sdpa", rows, result)
    worst = float((result.run.logits - dense.logits).abs().max())
    if not worst <= TOLERANCE:
        raise Wrong(f"{method} is {worst:.1e} off masked dense ({shape})")
    _media_found(rows, result)
    if int(result.held[-1][0].sum()) >= len(rows[0]):
        raise Wrong(f"{method} dropped nothing ({result.cache.report().reason})")
    if float((result.run.logits[0, 0] - stock.logits[0, 0]).abs().max()) < 10 * TOLERANCE:
        raise Wrong(f"{method} could not be told from dense")
    if len(rows) > 1:
        worst = max(worst, _alone(name, method, rows, result))
    return worst


def _media_found(rows: Any, result: Any) -> None:
    """The TokenMap says of each position what it is by construction."""
    modality = result.cache.token_map.modality
    for index, row in enumerate(rows):
        if modality[index, -len(row) :].tolist() != [int(kind) for kind in row.kinds]:
            raise Wrong(f"the TokenMap of row {index} is not what the prompt holds")


def _alone(name: str, method: str, rows: Any, together: Any) -> float:
    """Largest difference of a prompt alone to itself in a batch, where stock makes none."""
    family = KNOWN[name]
    model = family.model("sdpa")
    batch = run(model, family.batch(rows), forced=together.run.tokens)
    worst = 0.0
    for index, row in enumerate(rows):
        forced = together.run.tokens[index : index + 1]
        single = run(model, family.batch([row]), forced=forced)
        if float((batch.logits[:, index : index + 1] - single.logits).abs().max()) > TOLERANCE:
            continue  # HunYuan-VL numbers images over the batch, and rotates their tokens by it
        alone = prune(name, "sdpa", [row], config_of(name, method), forced=forced)
        off = (together.run.logits[:, index : index + 1] - alone.run.logits).abs().max()
        worst = max(worst, float(off))
        if not worst <= TOLERANCE:
            raise Wrong(f"row {index} alone is {worst:.1e} off the same row in a batch, {method}")
    return worst


def _eager(name: str, method: str) -> float:
    """Largest difference to masked dense with eager attention, in prompts of one length."""
    rows = KNOWN[name].level()
    result = prune(name, "eager", rows, config_of(name, method))
    worst = float((result.run.logits - reference(name, "eager", rows, result).logits).abs().max())
    if not worst <= TOLERANCE:
        raise Wrong(f"{method} is {worst:.1e} off masked dense with eager attention")
    if method == "fastav":
        check_fine_cut(name, rows, result)
    return worst


def _attached(name: str) -> None:
    """An attached model prunes as with a FastAVCache."""
    family = KNOWN[name]
    model, rows = family.model("sdpa"), family.single()
    expected = prune(name, "sdpa", rows, config_of(name, "divprune"))
    try:
        attach(model, config_of(name, "divprune"))
        if not torch.equal(run(model, family.batch(rows)).logits, expected.run.logits):
            raise Wrong("attached, it does not prune as with a FastAVCache")
    finally:
        detach(model)


def _check_refusal(name: str) -> None:
    """No token comes of a refused request, and the model is as it was."""
    model, inputs = KNOWN[name].model("sdpa"), _inputs(name, "single")
    try:
        stock = run(model, inputs)
    except Exception:
        return  # it wants more than words to make any token
    try:
        run(model, inputs, FastAVCache(config_of(name, "divprune")))
    except FastAVError:
        pass
    else:
        raise Wrong("attach() refuses it, a FastAVCache does not")
    if not torch.equal(run(model, inputs).logits, stock.logits):
        raise Wrong("a refused request changed the model")
