"""What users may import, and that all of it is documented."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import fastav_plugin
from fastav_plugin import errors

PUBLIC = [
    "ConfigError",
    "FastAVCache",
    "FastAVConfig",
    "FastAVError",
    "HookError",
    "LayerHook",
    "LayerHookList",
    "LayerView",
    "Modality",
    "PruningReport",
    "StateError",
    "TokenMap",
    "TokenMapError",
    "UnsupportedError",
    "attach",
    "detach",
    "pruned",
    "register_hook",
    "register_models",
    "register_override",
]


def module_names() -> list[str]:
    found = pkgutil.walk_packages(fastav_plugin.__path__, "fastav_plugin.")
    return ["fastav_plugin", *(m.name for m in found if not m.name.endswith("__main__"))]


MODULES = module_names()

#: Import paths that users may rely on besides the package itself.
PATHS = {
    "fastav_plugin.attach": "attach detach pruned",
    "fastav_plugin.cache": "FastAVCache",
    "fastav_plugin.config": "FastAVConfig",
    "fastav_plugin.errors": "FastAVError ConfigError HookError StateError UnsupportedError",
    "fastav_plugin.flops": "prefill_macs",
    "fastav_plugin.hooks": "LayerHook LayerHookList LayerView register_hook",
    "fastav_plugin.hooks.div_prune": "max_min_diversity",
    "fastav_plugin.model_overrides": "ModelOverride register_override",
    "fastav_plugin.report": "PruningReport",
    "fastav_plugin.rollout": "rollout_row",
    "fastav_plugin.tokens": "Modality TokenMap",
}
PACKAGES = ("videollama2", "video_salmonn2", "tgi")


@pytest.mark.parametrize("path", PATHS)
def test_public_paths_lead_to_their_names(path: str) -> None:
    module = importlib.import_module(path)
    for name in PATHS[path].split():
        assert callable(getattr(module, name)), name


@pytest.mark.parametrize("name", PACKAGES)
def test_public_packages_of_families(name: str) -> None:
    assert f"fastav_plugin.model_overrides.{name}" in MODULES


def test_all_modules_are_looked_at() -> None:
    assert len(MODULES) > 200
    assert {"fastav_plugin.hooks.base", "fastav_plugin.model_overrides.base"} < set(MODULES)


def test_the_public_names_are_exactly_these() -> None:
    assert fastav_plugin.__all__ == PUBLIC
    for name in PUBLIC:
        assert hasattr(fastav_plugin, name)


def test_every_error_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(PUBLIC)


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, Any] = {}
    exec("from fastav_plugin import *", names)
    assert set(names) - {"__builtins__"} == set(PUBLIC)


@pytest.mark.parametrize("name", MODULES)
def test_every_list_of_names_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is None:
        return
    # Constants, classes, functions: the order ruff keeps.
    rank = {n: (not n.isupper(), not n[0].isupper(), n) for n in names}
    assert names == sorted(names, key=rank.__getitem__)
    assert len(set(names)) == len(names)
    for item in names:
        assert hasattr(module, item), f"{name}.{item}"


def own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public classes and functions that a module defines."""
    for name, value in vars(module).items():
        public = not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        if public and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class defines itself."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if inspect.isfunction(value) or isinstance(value, property):
            yield name, value


def documented(kind: type, name: str) -> bool:
    """Whether a method has a docstring, of its own or of the class it overrides."""
    for base in kind.__mro__:
        value = vars(base).get(name)
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if (getattr(value, "__doc__", None) or "").strip():
            return True
    return False


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), name
    missing = []
    for item, value in own(module):
        doc = (vars(value).get("__doc__") or getattr(value, "__doc__", None) or "").strip()
        generated = inspect.isclass(value) and doc.startswith(f"{item}(")
        if not doc or generated:
            missing.append(item)
        if inspect.isclass(value):
            missing += [f"{item}.{m}" for m, _ in members(value) if not documented(value, m)]
    assert not missing


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_line_is_a_sentence(name: str) -> None:
    first = (inspect.getdoc(getattr(fastav_plugin, name)) or "").split("\n\n")[0]
    assert first.strip().endswith((".", ":")), first
