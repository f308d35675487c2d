"""Text models without an override of their own: they take the generic one, after its probe."""

from __future__ import annotations

import functools
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.support import family_prompts as prompts
from tests.support.families import KNOWN, Family
from tests.support.family_configs import hub, text_config
from tests.support.model_types import require_model_type

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

#: Text models that a caller's TokenMap points into: model_type and what its config needs.
TEXT_MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 20},
    "qwen3": {"head_dim": 12},
    "qwen3_moe": _EXPERTS | {"head_dim": 12},
    "mixtral": {"num_local_experts": 4},
    "gemma": {"head_dim": 12},
    "gemma2": {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 20},
    "phi3": {"sliding_window": 20},
    "cohere2": {"sliding_window": 20, "logit_scale": 1.0},
    "glm4": {"head_dim": 12},
    "granite": {},
    "olmo2": {},
    "starcoder2": {},
    "exaone4": {"sliding_window": 20, "sliding_window_pattern": 2},
    "helium": {"head_dim": 12},
}


def _config(kind: str) -> Any:
    require_model_type(kind)
    return hub.AutoConfig.for_model(kind, **(text_config() | TEXT_MODELS[kind]))


def _text_family(kind: str) -> Family:
    return Family(
        f"{kind}_text",
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, ""),
        functools.partial(_config, kind),
        prompts.plain_text,
        {"video": "first 20 tokens", "audio": "first 10 tokens"},
        given_map=True,
    )


OTHERS = {family.name: family for family in map(_text_family, TEXT_MODELS)}
KNOWN.update(OTHERS)
