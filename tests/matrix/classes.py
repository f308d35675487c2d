"""The classes of the matrix, and a case of one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from transformers.models.auto import modeling_auto

from tests.matrix.shrink import shrunk
from tests.support.families import Family
from tests.support.family_prompts import Rows

#: Class of every generative multimodal model_type. Two stand in no mapping of such models.
CLASSES: dict[str, str] = {
    **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    **modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    "audioflamingo3": "AudioFlamingo3ForConditionalGeneration",
    "musicflamingo": "MusicFlamingoForConditionalGeneration",
}


def family(
    model_type: str,
    changes: dict[str, Any],
    rows: Callable[[], Rows],
    *,
    suffix: str = "",
    **more: Any,
) -> Family:
    """A case of the matrix, named after its model_type."""
    return Family(
        f"matrix_{model_type}{suffix}",
        CLASSES[model_type],
        functools.partial(shrunk, model_type, changes),
        rows,
        **{"rule": "first 10 tokens", **more},
    )
