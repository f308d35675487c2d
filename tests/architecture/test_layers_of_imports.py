"""Imports only go down, and the check that says so finds planted violations."""

from pathlib import Path

import pytest

from tests.architecture.imports import LINKED, PACKAGE, graph, libraries, modules, room, violations

ROOT = Path(__file__).parents[2]

#: What must not depend on the library it is used with.
NO_TRANSFORMERS = ("errors", "config", "flops", "tokens", "functional", "report", "hooks")


def test_imports_only_go_down() -> None:
    assert violations(ROOT) == []


def test_the_rooms_are_really_read() -> None:
    found = modules(ROOT)
    assert {"", "errors", "attach", "hooks", "hooks.base", "model_overrides.registry"} <= set(found)
    assert len(found) > 200
    edges = {name: {target for target, _ in targets} for name, targets in graph(ROOT).items()}
    assert "hooks.base" in edges["pruning.prefill"]
    assert "hooks.base" in edges["hooks"]
    assert "attach" in edges[""]


def rooms_below(prefix: str) -> dict[str, set[str | None]]:
    """The rooms that each module of a room imports; the room must have a plausible number."""
    found = {
        name: {room(target) for target, _ in targets}
        for name, targets in graph(ROOT).items()
        if room(name) == prefix
    }
    assert len(found) > 4, prefix
    return found


def test_mathematics_knows_tensors_only() -> None:
    for name, rooms in rooms_below("functional").items():
        assert rooms <= {"functional", "errors"}, name


def test_hooks_know_only_what_a_view_shows() -> None:
    for name, rooms in rooms_below("hooks").items():
        allowed = {"hooks", "config", "defaults", "global_rule", "errors", "tokens", "functional"}
        assert rooms <= allowed, name


def test_no_override_imports_a_hook_or_the_engine() -> None:
    allowed = {"model_overrides", "tokens", "global_rule", "flops", "upstream", "media"}
    allowed |= {"defaults", "errors", "hub", "installation", "upcalls"}
    for name, rooms in rooms_below("model_overrides").items():
        assert rooms <= allowed, name


def test_data_and_mathematics_do_not_import_transformers() -> None:
    found = {name: path for name, path in modules(ROOT).items() if room(name) in NO_TRANSFORMERS}
    assert {room(name) for name in found} == set(NO_TRANSFORMERS)
    assert len(found) > 20
    assert [name for name, path in found.items() if "transformers" in libraries(name, path)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import transformers",
        "import transformers.utils as utils",
        "from transformers import x",
        "from transformers.cache_utils import Cache",
        "def f():\n    import transformers.utils",
        "def f():\n    from transformers import x",
        "try:\n    import transformers\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    from transformers import PreTrainedModel",
        "import importlib\nimportlib.import_module('transformers.utils')",
        "import importlib\nimportlib.import_module(f'transformers.models.{name}')",
        "__import__('transformers')",
    ],
)
def test_a_planted_library_is_found(tmp_path: Path, source: str) -> None:
    root = plant(tmp_path, {"tokens": source})
    found = libraries("tokens", modules(root)["tokens"])
    assert found - {"importlib"} == {"transformers"}


def plant(root: Path, files: dict[str, str]) -> Path:
    """A small checkout with the given modules; errors and config are always there."""
    for name, source in {"__init__": "", "errors": "", "config": "", **files}.items():
        room = name.split("/")[0]
        base = root if room in LINKED else root / PACKAGE
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
        ("errors", "import importlib\nimportlib.import_module('.config', __package__)"),
        ("errors", "from importlib import import_module as load\nload('fastav_plugin.config')"),
        ("errors", "import importlib\nimportlib.import_module(f'fastav_plugin.hooks.{name}')"),
        ("errors", "import importlib\nimportlib.import_module(f'{__package__}.hooks.{name}')"),
        ("errors", "import importlib\nimportlib.import_module('fastav_plugin.hooks.' + name)"),
        ("errors", "LATER = {'fast': 'fastav_plugin.hooks.base'}"),
        ("errors", "__import__('fastav_plugin.config')"),
        ("errors", "try:\n    from fastav_plugin.config import x\nexcept ImportError:\n    pass"),
        ("errors", "if TYPE_CHECKING:\n    from fastav_plugin.config import FastAVConfig"),
        ("config", "from fastav_plugin.hooks.base import LayerHook"),
        ("config", "from fastav_plugin import FastAVCache"),
        ("hooks/base", "from fastav_plugin.pruning.prefill import Prefill"),
        ("hooks/base", "from ..binding import Binding"),
        ("hooks/base", "import hooks.registry"),
        ("errors", "def late():\n    import hooks.base"),
        ("errors", "from tests.support import oracle"),
        ("hooks/__init__", "from ..binding import Binding"),
        ("model_overrides/llava", "from fastav_plugin.hooks.div_prune import DivPrune"),
        ("tokens", "from fastav_plugin.model_overrides.llava import LlavaOverride"),
        ("attach", "from fastav_plugin.cli import main"),
        ("cache", "import fastav_plugin.attach"),
        ("cache", "from fastav_plugin.lab.testbed.world import Clip"),
        ("attach", "import fastav_plugin.lab.testbed.world"),
        ("attach", "def late():\n    from fastav_plugin.lab import testbed"),
        ("evaluation/answers", "import importlib\nimportlib.import_module('fastav_plugin.lab')"),
        ("evaluation/answers", "def late():\n    import fastav_plugin.lab.testbed.world"),
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
        "pruning/prefill": "",
        "binding/__init__": "",
        "lab/__init__": "",
        "lab/testbed/__init__": "",
        "lab/testbed/world": "",
        "attach": "",
        "cli/__init__": "",
    }
    assert violations(plant(tmp_path / "clean", files)) == []
    found = violations(plant(tmp_path / "planted", {**files, name: source}))
    assert found
    assert any(name.removesuffix("/__init__").replace("/", ".") in line for line in found)


def test_a_circle_inside_one_room_is_found(tmp_path: Path) -> None:
    files = {
        "pruning/prefill": "from fastav_plugin.pruning.decode import Decode",
        "pruning/decode": "def late():\n    from fastav_plugin.pruning import prefill",
    }
    assert any("circle" in line for line in violations(plant(tmp_path, files)))
