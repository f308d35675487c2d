"""Each module of the core has tests under its own name, or a named file of tests that covers it."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.imports import modules

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

#: Rooms whose modules have a test file each, and modules beside them.
ROOMS = "binding compatibility functional hooks layers media planning pruning".split()
BESIDE = "attach cache config report tokens".split()

#: What is tested through what uses it.
COVERED = {
    "binding.attachment": "behaviour/life_cycle/test_unpruned_calls",
    "binding.binding": "test_attach",
    "binding.layer_entry": "behaviour/families/test_schedule",
    "binding.reports": "behaviour/life_cycle/test_pruned_blocks",
    "pruning.model_identity": "calibration/test_config",
    "pruning.bound_model": "upstream/test_contracts",
    "pruning.decode": "behaviour/decoding/test_turns",
    "pruning.forward": "behaviour/families/test_families",
    "pruning.rope_deltas": "behaviour/decoding/test_turns",
    "pruning.survivors": "pruning/test_prefill",
}


def core(root: Path) -> dict[str, Path]:
    """Modules with functions or classes of their own; mere names of others need no test."""
    return {
        name: path
        for name, path in modules(root).items()
        if (name in BESIDE or name.split(".")[0] in ROOMS)
        and path.name != "__init__.py"
        and any(
            isinstance(node, (ast.FunctionDef, ast.ClassDef))
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }


def where_tested(name: str) -> Path:
    """Where the tests of a module are."""
    *rooms, last = name.split(".")
    if name in COVERED:
        return TESTS / f"{COVERED[name]}.py"
    return TESTS.joinpath(*rooms, f"test_{last}.py")


CORE = core(ROOT)


def test_the_core_is_there() -> None:
    assert len(CORE) > 45
    assert {name.split(".")[0] for name in CORE} == {*ROOMS, *BESIDE}
    assert len(COVERED) < 16


@pytest.mark.parametrize("name", CORE)
def test_a_module_has_tests(name: str) -> None:
    path = where_tested(name)
    assert path.is_file(), f"{name} has no {path.relative_to(ROOT)}"
    assert "def test_" in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("name", COVERED)
def test_an_exception_is_one(name: str) -> None:
    assert name in CORE
    *rooms, last = name.split(".")
    assert not TESTS.joinpath(*rooms, f"test_{last}.py").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_where_tested_a_room_have_its_module(room: str) -> None:
    """So a module that is renamed takes its tests along."""
    known = {name.split(".")[-1] for name in CORE if name.startswith(f"{room}.")}
    tested = {path.stem.removeprefix("test_") for path in (TESTS / room).glob("test_*.py")}
    assert tested
    assert tested <= known


#: What a driver names; pytest does not run drivers, so a file that moves would be missed late.
DRIVERS = [
    path
    for folder in ("tgi_real", "releases", "canary")
    for path in sorted((TESTS / folder).rglob("*.py"))
    if not path.name.startswith("test_")
]
PATH = re.compile(r"(?:tests|deploy|hooks|model_overrides|fastav_plugin)/[\w./-]+")


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda path: str(path.relative_to(TESTS)))
def test_paths_that_a_driver_names_exist(driver: Path) -> None:
    named = [
        node.value.partition("::")[0]
        for node in ast.walk(ast.parse(driver.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    paths = [text for text in named if PATH.fullmatch(text)]
    assert not [path for path in paths if not (ROOT / path).exists()]
