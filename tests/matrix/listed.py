"""Every family of the mappings as a case of the matrix."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from transformers.models.auto import modeling_auto

from tests.families import FAMILIES, KNOWN, Family
from tests.family_configs import hub
from tests.family_prompts import Rows
from tests.matrix.media import prompt, words_only
from tests.matrix.patches import PATCHES
from tests.matrix.pictures import PICTURES
from tests.matrix.shrink import shrunk
from tests.matrix.sounds import SOUNDS
from tests.matrix.special import GLM, REFUSED, SPECIAL, WRITTEN, glm_video
from tests.prompts import type_ids

#: Class of every generative multimodal model_type. Two stand in no mapping of such models.
CLASSES: dict[str, str] = {
    **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    **modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    "audioflamingo3": "AudioFlamingo3ForConditionalGeneration",
    "musicflamingo": "MusicFlamingoForConditionalGeneration",
}

#: What each modality's first ten tokens are to the global rule.
RULE = "first 10 tokens"

#: The full models are served through their thinkers, for text.
_THINKERS = {
    "qwen2_5_omni": "qwen2_5_omni_thinker",
    "qwen3_omni_moe": "qwen3_omni_moe_thinker",
}

#: What a row of the table says besides.
NOTES = dict.fromkeys(_THINKERS, "as its thinker, for text") | {
    "mistral4": "words, by a TokenMap",
}

#: The sampler of this one adds noise.
CONSTANT: dict[str, dict[str, Any]] = {"vibevoice_asr": {"sample": False}}


@functools.cache
def cases(model_type: str) -> tuple[Family, ...]:
    """The matrix's families of a model_type, known to the other tests by their names."""
    if model_type in _THINKERS:
        return cases(_THINKERS[model_type])
    if model_type in WRITTEN:
        return (FAMILIES[WRITTEN[model_type]],)
    made = [_case(model_type)]
    if model_type in GLM:
        made.append(glm_video(model_type, made[0].name, CLASSES[model_type], RULE))
    KNOWN.update({family.name: family for family in made})
    return tuple(made)


def _case(model_type: str) -> Family:
    name = f"matrix_{model_type}"
    if model_type in SPECIAL:
        return SPECIAL[model_type](name, CLASSES[model_type], RULE)
    listed: Any = (PICTURES | PATCHES | SOUNDS).get(model_type)
    changes: dict[str, Any] = REFUSED.get(model_type, {}) if listed is None else listed[0]
    rows: Callable[[], Rows] = words_only if listed is None else prompt(*listed[1:])
    parameters = inspect.signature(getattr(hub, CLASSES[model_type]).forward).parameters
    kinds = [key for key in ("mm_token_type_ids", "token_type_ids") if key in parameters]
    return Family(
        name,
        CLASSES[model_type],
        functools.partial(shrunk, model_type, changes),
        rows,
        RULE,
        extra=type_ids(kinds[0]) if kinds and listed is not None else None,
        constant=CONSTANT.get(model_type, {}),
    )
