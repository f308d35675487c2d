from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.testing import Result

from fastav_plugin.hooks import METHODS
from fastav_plugin.model_overrides.registry import OVERRIDES


def test_every_family_and_method_is_listed(invoke_json: Callable[..., Any]) -> None:
    found = invoke_json("models")
    assert [row["model_type"] for row in found["families"]] == sorted(OVERRIDES)
    assert {row["method"] for row in found["methods"]} == set(METHODS)
    assert all(row["about"].endswith(".") for row in found["hooks"])


def test_the_table(invoke: Callable[..., Result]) -> None:
    result = invoke("models")
    assert result.exit_code == 0
    assert "qwen2_5_omni_thinker" in result.stdout
    assert "global_pruning then fine_pruning" in result.stdout


def test_presets(invoke_json: Callable[..., Any]) -> None:
    found = invoke_json("models")["presets"]
    assert [row["preset"] for row in found] == ["safe", "balanced", "fast", "conversation"]
    assert all("of the FLOPs" in row["about"] for row in found)
