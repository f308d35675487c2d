"""A small double of the five classes of Text Generation Inference that pruned batches stand on.

Written from what the real ones were seen to do, in as few lines as that takes: their bookkeeping
of a padded batch, greedy choice, no text. `tests.model_overrides.tgi.signatures` compares names
and arguments with the real package, wherever that is installed.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tests.model_overrides.tgi.double import causal_lm, generate_pb2, model, speculate, types

PACKAGE = "text_generation_server"


def get_model(
    model_id: str,
    lora_adapter_ids: list[str] | None,
    revision: str | None,
    sharded: bool,
    quantize: str | None,
    speculate: int | None,
    dtype: str | None,
    kv_cache_dtype: str | None,
    trust_remote_code: bool,
    max_input_tokens: int,
) -> None:
    """Load a model; nothing is loaded here."""


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `import text_generation_server` find the double until the patch is undone."""
    root, models, pb, utils = (ModuleType(name) for name in ("", "models", "pb", "utils"))
    vars(models).update(get_model=get_model, causal_lm=causal_lm, model=model, types=types)
    vars(pb).update(generate_pb2=generate_pb2)
    vars(utils).update(speculate=speculate)
    vars(root).update(models=models, pb=pb, utils=utils)
    modules = {
        "": root,
        ".models": models,
        ".models.causal_lm": causal_lm,
        ".models.model": model,
        ".models.types": types,
        ".pb": pb,
        ".pb.generate_pb2": generate_pb2,
        ".utils": utils,
        ".utils.speculate": speculate,
    }
    for name, module in modules.items():
        patch.setitem(sys.modules, PACKAGE + name, module)
