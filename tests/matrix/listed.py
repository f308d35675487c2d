"""Every family of the mappings as cases of the matrix."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tests.matrix.classes import CLASSES, family
from tests.matrix.media import prompt, words_only
from tests.matrix.patches import PATCHES
from tests.matrix.pictures import PICTURES
from tests.matrix.sounds import SOUNDS
from tests.matrix.special import SPECIAL
from tests.support.families import FAMILIES, KNOWN, Family
from tests.support.family_configs import hub
from tests.support.family_prompts import Rows
from tests.support.model_types import require_model_type
from tests.support.prompts import type_ids

#: Families of the hand-written matrix, by model_type.
WRITTEN = {
    "llava": "llava",
    "llava_next": "llava_next",
    "llava_next_video": "llava_next_video",
    "llava_onevision": "llava_onevision",
    "qwen2_5_omni_thinker": "omni_all",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen2_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl",
}

#: The full models run through their thinkers, for text.
THINKERS = {
    "qwen2_5_omni": "qwen2_5_omni_thinker",
    "qwen3_omni_moe": "qwen3_omni_moe_thinker",
}

#: What a row of the table says besides.
NOTES = dict.fromkeys(THINKERS, "as its thinker, for text") | {
    "gemma4": "sizes without embeddings per layer; those with them are refused",
    "mistral4": "words, by a TokenMap",
}

#: Changes without which a family that is refused would be large, or not what is published.
REFUSED: dict[str, dict[str, Any]] = {
    "lfm2_vl": {"text_config.layer_types": ["conv", "full_attention"] * 3},
    "udop": {"d_model": 32, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2},
}

#: The sampler of this one adds noise.
CONSTANT: dict[str, dict[str, Any]] = {"vibevoice_asr": {"sample": False}}


@functools.cache
def cases(model_type: str) -> tuple[Family, ...]:
    """The matrix's families of a model_type, known to the other tests by their names."""
    require_model_type(model_type)
    if model_type in THINKERS:
        return cases(THINKERS[model_type])
    if model_type in WRITTEN:
        return (FAMILIES[WRITTEN[model_type]],)
    made = SPECIAL[model_type](model_type) if model_type in SPECIAL else (_case(model_type),)
    KNOWN.update({one.name: one for one in made})
    return made


def _case(model_type: str) -> Family:
    listed: Any = (PICTURES | PATCHES | SOUNDS).get(model_type)
    changes: dict[str, Any] = REFUSED.get(model_type, {}) if listed is None else listed[0]
    rows: Callable[[], Rows] = words_only if listed is None else prompt(*listed[1:])
    parameters = inspect.signature(getattr(hub, CLASSES[model_type]).forward).parameters
    kinds = [key for key in ("mm_token_type_ids", "token_type_ids") if key in parameters]
    extra = type_ids(kinds[0]) if kinds and listed is not None else None
    constant = CONSTANT.get(model_type, {})
    return family(model_type, changes, rows, extra=extra, constant=constant)
