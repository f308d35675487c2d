"""Imports only go down, and the check that says so finds planted violations."""

import ast
from pathlib import Path

import pytest

from tests.architecture.imports import PACKAGE, graph, modules, violations

ROOT = Path(__file__).parents[2]

#: Files whose mathematics or data must not depend on the library they are used with.
NO_TRANSFORMERS = ("errors", "config", "flops", "tokens", "scoring", "rollout", "report", "hooks")


def test_imports_only_go_down() -> None:
    assert violations(ROOT) == []


def test_the_rooms_are_really_read() -> None:
    found = modules(ROOT)
    assert {"", "errors", "attach", "hooks", "hooks.base", "model_overrides.registry"} <= set(found)
    assert len(found) > 30
    edges = {name: {target for target, _ in targets} for name, targets in graph(ROOT).items()}
    assert "layer_call" in edges["prefill"]
    assert "hooks.base" in edges["hooks"]
    assert "attach" in edges[""]


@pytest.mark.parametrize(
    "name", ["scoring", "rollout", "diversity", "diversity_kernel", "products"]
)
def test_mathematics_knows_tensors_only(name: str) -> None:
    assert {target for target, _ in graph(ROOT)[name]} <= {"errors", "products", "diversity_kernel"}


def test_hooks_know_only_what_a_view_shows() -> None:
    for name, targets in graph(ROOT).items():
        if name.split(".")[0] == "hooks":
            rooms = {target.split(".")[0] for target, _ in targets}
            shown = {"tokens", "scoring", "diversity", "prompt_rollout", "fingerprint"}
            assert rooms <= {"hooks", "config", "errors"} | shown, name


def test_no_override_imports_a_hook_or_the_engine() -> None:
    allowed = {"model_overrides", "tokens", "report", "upstream", "flops", "errors"}
    allowed |= {"decoding", "installation"}
    for name, targets in graph(ROOT).items():
        if name.startswith("model_overrides") and not name.startswith("model_overrides.tgi"):
            rooms = {target.split(".")[0] for target, _ in targets}
            assert rooms <= allowed, name


def test_data_and_mathematics_do_not_import_transformers() -> None:
    for name, path in modules(ROOT).items():
        if name.split(".")[0] in NO_TRANSFORMERS:
            source = path.read_text(encoding="utf-8")
            roots = {
                (node.module or "").split(".")[0]
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.ImportFrom)
            }
            assert "transformers" not in roots, name


def plant(root: Path, files: dict[str, str]) -> Path:
    """A small checkout with the given modules; errors and config are always there."""
    for name, source in {"__init__": "", "errors": "", "config": "", **files}.items():
        room = name.split("/")[0]
        base = root if room in ("hooks", "model_overrides") else root / PACKAGE
        path = base / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def test_a_clean_tree_has_no_violation(tmp_path: Path) -> None:
    files = {
        "config": "from fastav_plugin.errors import ConfigError",
        "hooks/__init__": "from fastav_plugin.hooks.base import LayerHook",
        "hooks/base": "from fastav_plugin.config import FastAVConfig",
        "__init__": "from fastav_plugin.config import FastAVConfig",
        "cli/__init__": "import fastav_plugin",
    }
    assert violations(plant(tmp_path, files)) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("errors", "from fastav_plugin.config import FastAVConfig"),
        ("errors", "import fastav_plugin.config"),
        ("errors", "from fastav_plugin import config"),
        ("errors", "from . import config"),
        ("errors", "from .config import FastAVConfig"),
        ("errors", "def late():\n    from fastav_plugin.config import FastAVConfig"),
        ("errors", "def late():\n    import fastav_plugin.config as config"),
        ("errors", "import importlib\nimportlib.import_module('fastav_plugin.config')"),
        ("errors", "__import__('fastav_plugin.config')"),
        ("errors", "try:\n    from fastav_plugin.config import x\nexcept ImportError:\n    pass"),
        ("config", "from fastav_plugin.hooks.base import LayerHook"),
        ("config", "from fastav_plugin import FastAVCache"),
        ("hooks/base", "from fastav_plugin.prefill import Prefill"),
        ("hooks/base", "from ..binding import Binding"),
        ("hooks/__init__", "from ..binding import Binding"),
        ("model_overrides/llava", "from fastav_plugin.hooks.div_prune import DivPrune"),
        ("tokens", "from fastav_plugin.model_overrides.llava import LlavaOverride"),
        ("attach", "from fastav_plugin.cli import main"),
        ("cache", "import fastav_plugin.attach"),
        ("newcomer", ""),
        ("hooks/base", "from fastav_plugin.hooks import method_hooks"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, name: str, source: str) -> None:
    files = {
        "hooks/__init__": "from fastav_plugin.hooks.base import LayerHook",
        "hooks/base": "",
        "hooks/div_prune": "",
        "model_overrides/__init__": "",
        "model_overrides/llava": "",
        "prefill": "",
        "binding": "",
        "attach": "",
        "cli/__init__": "",
    }
    assert violations(plant(tmp_path / "clean", files)) == []
    found = violations(plant(tmp_path / "planted", {**files, name: source}))
    assert found
    assert any(name.removesuffix("/__init__").replace("/", ".") in line for line in found)


def test_a_circle_inside_one_tier_is_found(tmp_path: Path) -> None:
    files = {
        "tokens": "from fastav_plugin.report import PruningReport",
        "report": "def late():\n    from fastav_plugin.tokens import TokenMap",
    }
    assert any("circle" in line for line in violations(plant(tmp_path, files)))


def test_imports_for_type_checkers_do_not_run(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    source += "    from fastav_plugin.config import FastAVConfig"
    assert violations(plant(tmp_path, {"errors": source})) == []
