"""What would be pruned in a model, from its config.json alone: no weights, no forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from fastav_plugin.attach import attach, detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig, check_ratio
from fastav_plugin.errors import ConfigError, FastAVError, UnsupportedError, in_short
from fastav_plugin.flops import LayerCost
from fastav_plugin.hooks import method_hooks
from fastav_plugin.hooks.plannable import cautions, counts_vary
from fastav_plugin.model_overrides import find_override
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.own_models.registry import own_model
from fastav_plugin.planning.dry_run import PromptSize, plan_prefill
from fastav_plugin.tokens import Modality


@dataclass(frozen=True)
class MethodPlan:
    """What one method would do to a prompt."""

    method: str
    tokens_per_layer: list[int]
    macs_per_layer: list[int]  # multiply-accumulates of each layer's prefill
    flops_ratio: float  # their sum and the overhead as a fraction of dense
    overhead_macs: int = 0  # multiply-accumulates of choosing tokens: scores, rollout, selection
    reason: str | None = None  # why nothing would be cut
    refusal: str | None = None  # why this method is refused; the plan is dense then
    settings: str = ""  # the config in words
    at_most: bool = False  # whether the counts vary from prompt to prompt, and these are the most
    cautions: list[str] = field(default_factory=list)  # where it is used outside of what works


@dataclass(frozen=True)
class Inspection:
    """Facts about a model that need no weights."""

    model_type: str
    architecture: str  # the class generate() runs on
    override: str  # the family's model override class
    num_layers: int
    cost: LayerCost
    placeholders: dict[str, int]  # id of each modality by name
    window: list[int | None]  # sliding window of each layer in tokens
    deepstack_layers: int  # lowest layers after which visual features are added
    scores: bool  # whether the last query's attention scores can be read
    global_rule: Any  # the family's default
    prompt: PromptSize  # what the plans are for
    plans: list[MethodPlan]  # dense first, then each method asked for


def inspect_model(
    directory: Path,
    methods: Sequence[str],
    keywords: Mapping[str, Any],
    counts: Mapping[str, int],
    *,
    target_flops: float | None = None,
) -> Inspection:
    """Find out what each method would do to a prompt in a checkpoint's model.

    The model is built from its configuration on the meta device, so attach() itself says whether
    it can be pruned. `counts` are sizes of the prompt, fields of PromptSize; the others are those
    of a typical prompt of the media that the model has placeholders for. `keywords` are those of
    `FastAVConfig.for_model` besides the method; `target_flops` chooses the ratios that are not
    among them for this share of dense.

    Raises:
        UnsupportedError: the model cannot be pruned.
        ConfigError: the folder holds no configuration that transformers can read, or a setting
            is wrong.
    """
    if target_flops is not None:
        check_ratio("target_flops", target_flops, "(0, 1]")
    config = read_config(directory)
    kind = model_class(config)
    try:
        with torch.device("meta"):
            model: nn.Module = kind(config).eval()
    except FastAVError:
        raise
    except Exception as error:  # sizes that fit no model fail wherever they are used first
        raise ConfigError(
            f"The configuration in '{directory}' makes no model: {in_short(error)}"
        ) from error
    head: Any = unwrap(model)
    override = find_override(head)
    config = head.config
    placeholders = override.placeholders(config)
    _check_kinds(type(head).__name__, set(placeholders.values()), counts)
    prompt = replace(PromptSize.of_kinds(placeholders.values()), **counts)
    tokens = prompt.token_map()
    layers = len(override.parts(head).layers)
    cost = override.cost(config)

    def plan(method: str, wanted: FastAVConfig | None, refusal: str | None = None) -> MethodPlan:
        if wanted is None:
            each = [cost.macs([tokens.length])] * layers
            return MethodPlan(method, [tokens.length] * layers, each, 1.0, refusal=refusal)
        planned = plan_prefill(wanted, tokens, layers, cost)
        (counts,), (overhead,), why = planned.counts, planned.overhead, planned.reason
        return MethodPlan(
            method,
            counts,
            [cost.macs([count]) for count in counts],
            planned.flops_ratio(cost, [tokens.length]),
            overhead,
            None if why is None else why.sentence(wanted.min_media_tokens),
            settings=wanted.describe(),
            at_most=counts_vary(method_hooks(wanted)),
            cautions=cautions(method_hooks(wanted), layers),
        )

    plans = [plan("dense", None)]
    budget: dict[str, Any] = {}
    if target_flops is not None:
        budget = {"target_flops": target_flops, "prompt": tokens}
    for method in methods:
        # A mistake in the settings is raised; what only this model cannot do is reported.
        given = {name: keywords[name] for name in keywords if name not in ("config", "preset")}
        method_hooks(FastAVConfig.from_dict({"method": method, **given}))
        try:
            wanted = FastAVConfig.for_model(model, method=method, **budget, **keywords)
            attach(model, wanted)
            plans.append(plan(method, wanted))
        except FastAVError as error:
            plans.append(plan(method, None, str(error)))
        finally:
            detach(model)
    return Inspection(
        model_type=config.model_type,
        architecture=type(head).__name__,
        override=type(override).__name__,
        num_layers=layers,
        cost=cost,
        placeholders={kind.name.lower(): i for i, kind in placeholders.items()},
        window=[override.window(config, layer) for layer in range(layers)],
        deepstack_layers=override.deepstack_layers(config),
        scores=override.scores_allowed(head),
        global_rule=override.global_rule,
        prompt=prompt,
        plans=plans,
    )


def _check_kinds(model: str, kinds: set[Modality], counts: Mapping[str, int]) -> None:
    """Refuse tokens of a kind that a model with placeholders has none for."""
    of_option = {"image": "image", "video": "video", "audio": "audio", "frames": "video"}
    for option, kind in of_option.items():
        if counts.get(option) and kinds and Modality[kind.upper()] not in kinds:
            known = " and ".join(sorted(each.name.lower() for each in kinds))
            raise ConfigError(
                f"`--{option}` cannot be {counts[option]}: the prompts of {model} hold no {kind} "
                f"tokens, only {known} tokens."
            )


def model_class(config: Any) -> Any:
    """The class that a configuration names, of transformers or of ours.

    Raises:
        UnsupportedError: none, or one that transformers does not have.
    """
    own = own_model(config)
    if own is not None:
        return own.model_class()
    names = getattr(config, "architectures", None) or []
    # A config.json may name the class of an older release; its model_type stays.
    kind = getattr(config, "model_type", "")
    tables = (
        modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )
    current = [table.get(kind) for table in tables]
    for name in (*names, *(name for name in current if isinstance(name, str))):
        found = getattr(transformers, name, None)
        if found is not None:
            return found
    raise UnsupportedError(
        f"config.json names the architecture {names[0] if names else None!r}, which this version "
        "of transformers does not have."
    )
