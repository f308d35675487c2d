"""Importing the package, and making a cache, leaves the process as it was."""

import subprocess
import sys

PROBE = """
import json, logging, sys, threading, warnings
import torch, transformers
from torch.nn.modules import module
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

def state():
    tables = {k: len(v) for k, v in vars(module).items() if k.startswith("_global_")
              and hasattr(v, "__len__")}
    return json.dumps({
        "hooks": tables,
        "attention": sorted(ALL_ATTENTION_FUNCTIONS.keys()),
        "masks": sorted(ALL_MASK_ATTENTION_FUNCTIONS.keys()),
        "warnings": [str(f) for f in warnings.filters],
        "threads": threading.active_count(),
        "rng": torch.get_rng_state().sum().item(),
        "grad": torch.is_grad_enabled(),
        "dtype": str(torch.get_default_dtype()),
        "num_threads": torch.get_num_threads(),
        "forward": id(torch.nn.Module.__call__),
        "generate": id(transformers.GenerationMixin.generate),
        "dynamic": sorted(map(str, vars(transformers.DynamicCache))),
        "handlers": [str(h) for h in logging.getLogger().handlers],
        "levels": logging.getLogger().level,
        "hook": str(sys.excepthook),
    }, sort_keys=True)

before = state()
import fastav_plugin
assert state() == before, (before, state())
fastav_plugin.FastAVConfig()
assert state() == before
cache = fastav_plugin.FastAVCache()
assert state() != before, "an unbound cache waits for its model"
del cache
assert state() == before, (before, state())

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
modelling = "fastav_plugin.model_overrides.videollama2.modeling"
assert "videollama2_qwen2" not in CONFIG_MAPPING and modelling not in sys.modules
fastav_plugin.register_models()
fastav_plugin.register_models()
assert "videollama2_qwen2" in CONFIG_MAPPING and modelling in sys.modules
assert state() == before, (before, state())
print("unchanged")
"""


def test_importing_changes_nothing_in_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "unchanged", done.stderr
