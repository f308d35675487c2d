"""Tiny multimodal models of their own, and generation that asks for no further media."""

import copy
from typing import Any

from tests.support.cache_names import passing
from tests.support.families import FAMILIES
from tests.support.prompts import SUPPRESSED


def family(name: str) -> tuple[Any, dict[str, Any]]:
    """A copy of the matrix's model, which a test may change, and its first prompt."""
    found = FAMILIES[name]
    return copy.deepcopy(found.model("sdpa")), found.batch(found.single())


def omni() -> tuple[Any, dict[str, Any]]:
    """A tiny Qwen2.5-Omni thinker, and a prompt of image, video and audio."""
    return family("omni_all")


def run(model: Any, inputs: dict[str, Any], past: Any = None, **settings: Any) -> Any:
    return model.generate(
        **inputs,
        **passing(past),
        max_new_tokens=4,
        do_sample=False,
        suppress_tokens=SUPPRESSED,
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )
