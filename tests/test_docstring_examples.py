"""The examples in docstrings give what they say."""

import doctest
import importlib
from typing import Any

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.upstream.arguments import cache_name
from tests.support.family_copies import family

#: Modules with examples, and how many lines are run in each.
EXAMPLES = {"attach": 6, "cache": 3, "config": 2, "tokens": 3}


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module: str) -> None:
    """With a tiny LLaVA and its prompt as `model` and `inputs`."""
    model, inputs = family("llava")
    names: dict[str, Any] = {
        "model": model,
        "inputs": {**inputs, "do_sample": False},
        "FastAVConfig": FastAVConfig,
    }
    home = importlib.import_module(f"fastav_plugin.{module}")
    runner, attempted = doctest.DocTestRunner(verbose=False), 0
    for test in doctest.DocTestFinder().find(home, extraglobs=names):
        for example in test.examples:
            # As they are written for transformers 5.24 and later.
            example.source = example.source.replace("cache=cache", f"{cache_name()}=cache")
        found = runner.run(test)
        assert found.failed == 0, test.name
        attempted += found.attempted
    assert attempted == EXAMPLES[module]
