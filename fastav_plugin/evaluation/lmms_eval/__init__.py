"""`--model fastav` of lmms-eval: one of its own models, with every prompt pruned.

lmms-eval finds `manifest` by the entry point in setup.cfg. `models` makes the pruned model,
`pruned_generate` gives each generate() its cache and scores given answers.
"""

from typing import Any


def manifest() -> Any:
    """What lmms-eval's registry takes: the classes of chat and of simple tasks, by their paths."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="fastav",
        simple_class_path=f"{__name__}.models.FastAVSimple",
        chat_class_path=f"{__name__}.models.FastAV",
    )
