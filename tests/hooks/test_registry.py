"""Names of hooks and methods, and lists of hooks."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from torch import Tensor

from fastav_plugin import (
    ConfigError,
    FastAVConfig,
    HookError,
    LayerHook,
    LayerHookList,
    LayerView,
    register_hook,
)
from fastav_plugin.hooks import ENTRANCE, METHODS, DivPrune, FinePruning, GlobalPruning, find_hook
from fastav_plugin.hooks import method_hooks as hooks_of
from fastav_plugin.hooks.base import HOOKS


class EveryOther(LayerHook):
    """Keep every other media row from some layer on."""

    name: ClassVar[str] = "test_every_other"

    def __init__(self, first: int = 1, *, step: int = 2) -> None:
        self.first = first
        self.step = step

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(range(self.first, num_layers))

    def __call__(self, view: LayerView) -> Tensor | None:
        return view.positions % self.step == 0


class Scored(EveryOther):
    name: ClassVar[str] = "scored"
    needs_scores = True


@pytest.fixture
def registry() -> Iterator[None]:
    hooks, methods = dict(HOOKS), dict(METHODS)
    yield
    for table, before in ((HOOKS, hooks), (METHODS, methods)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]


@pytest.mark.usefixtures("registry")
def test_register_makes_a_hook_and_a_method() -> None:
    assert register_hook(EveryOther) is EveryOther
    assert find_hook("test_every_other") is EveryOther
    assert register_hook(EveryOther) is EveryOther  # again is fine
    found = hooks_of(FastAVConfig(method="test_every_other+divprune"))
    kinds: list[Any] = [EveryOther, DivPrune]
    assert [type(hook) for hook in found] == kinds
    assert EveryOther(3, step=5).to_dict() == {"name": "test_every_other", "first": 3, "step": 5}
    again = LayerHookList.from_list([EveryOther(3, step=5).to_dict()])[0]
    assert isinstance(again, EveryOther)
    assert (again.first, again.step) == (3, 5)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("wrong", [object, EveryOther(), "test_every_other", LayerView])
def test_register_refuses_what_is_no_hook_class(wrong: Any) -> None:
    with pytest.raises(HookError, match="LayerHook class"):
        register_hook(wrong)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("div_prune", "'div_prune' is taken by DivPrune"),
        ("fastav", "'fastav' is taken by a method"),
        ("a+b", r"'a\+b' holds a '\+'"),
        ("", "Wrong has no name"),
        (None, "Wrong has no name"),
    ],
)
def test_register_refuses_names(name: Any, why: str) -> None:
    wrong = type("Wrong", (EveryOther,), {"name": name})
    before = dict(HOOKS)
    with pytest.raises(HookError, match=why):
        register_hook(wrong)
    assert before == HOOKS


@pytest.mark.parametrize("alias", ["div_prune", "div_prune_by_frame"])
def test_no_method_has_two_names(alias: str) -> None:
    """A hook that is the whole of a method has its own name in saved configs alone."""
    made = list(METHODS.values())
    assert len(set(made)) == len(made)
    with pytest.raises(ConfigError, match=f"Did you mean '{alias.replace('_p', 'p')}'"):
        hooks_of(FastAVConfig(method=f"divprune+{alias}"))
    (hook,) = LayerHookList.from_list([{"name": alias, "visual_keep_ratio": 0.25}])
    assert isinstance(hook, DivPrune) and hook.visual_keep_ratio == 0.25


@pytest.mark.parametrize("method", ["fastav+fine_pruning", "divprune+divprune", "vtw+seats+vtw"])
def test_no_hook_is_applied_twice(method: str) -> None:
    with pytest.raises(ConfigError, match="names a hook twice"):
        hooks_of(FastAVConfig(method=method))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["fastav", "divprune", "none"])
def test_register_refuses_a_hook_named_like_a_method(name: str) -> None:
    taken = type("Taken", (EveryOther,), {"name": name})
    with pytest.raises(HookError, match=name):
        register_hook(taken)
    assert name not in HOOKS


def test_find_hook_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'phi9'.*div_prune.*register_hook\(\)"):
        find_hook("phi9")


def test_list_at_and_places() -> None:
    hooks = LayerHookList([GlobalPruning("below 3", 2), FinePruning(0.2, 2), DivPrune()])
    assert hooks.places(4) == {ENTRANCE, 2, 3}
    assert [type(hook) for hook in hooks.at(3, 4)] == [FinePruning]
    assert [type(hook) for hook in hooks.at(ENTRANCE, 4)] == [DivPrune]
    assert hooks.at(1, 4) == []
    assert LayerHookList().places(4) == frozenset()


@pytest.mark.parametrize("first", [-2, -9])
def test_places_below_the_entrance(first: int) -> None:
    with pytest.raises(HookError, match=r"EveryOther.*0\.\.3.*ENTRANCE"):
        LayerHookList([EveryOther(first)]).places(4)


def test_places_beyond_the_model() -> None:
    class Far(EveryOther):
        def layers(self, num_layers: int) -> frozenset[int]:
            return frozenset({num_layers})

    with pytest.raises(HookError, match=r"\[4\]"):
        LayerHookList([Far()]).places(4)


@pytest.mark.parametrize("first", [ENTRANCE, 0])
def test_scores_before_any_attention(first: int) -> None:
    with pytest.raises(HookError, match="scores"):
        LayerHookList([Scored(first)]).places(4)


@pytest.mark.parametrize("wrong", [[1], ["div_prune"], [DivPrune], [None], [{}]])
def test_from_list_refuses_what_is_no_hook(wrong: list[Any]) -> None:
    with pytest.raises((HookError, ConfigError)):
        LayerHookList.from_list(wrong)
