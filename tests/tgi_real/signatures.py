"""What the plugin and the hand-written double take for granted, held against the real package."""

from __future__ import annotations

import inspect

from tests.tgi import signatures
from tests.tgi_real.setting import Setting


def compare(setting: Setting) -> None:
    """Classes, arguments and messages of TGI that the plugin and the double rely on."""
    import text_generation_server

    check = setting.report.check
    check("the package is the real one", "double" not in str(text_generation_server.__file__))
    wrong = signatures.differences()
    count = len(signatures.PARAMETERS), len(signatures.MESSAGES)
    seen = f"{count[0]} functions, {count[1]} messages, the fields of the batch"
    check("arguments and fields are those of the double", not wrong, "; ".join(wrong) or seen)
    from text_generation_server.models import causal_lm, model

    lacking = [
        name
        for kind, names in ((causal_lm.CausalLM, ("forward",)), (model.Model, ("warmup",)))
        for name in names
        if not inspect.isfunction(getattr(kind, name, None))
    ]
    check("what is overridden exists", not lacking, ", ".join(lacking))
