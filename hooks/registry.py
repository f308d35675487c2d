"""Names of hooks and methods, and the list of hooks that a config asks for."""

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, HookError, unknown_name
from fastav_plugin.hooks.base import ENTRANCE, HOOKS, LayerHook

#: Method names and the hooks each is made of, in order. Every other hook is a method of its own.
METHODS: dict[str, tuple[str, ...]] = {
    "none": (),
    "fastav": ("global_pruning", "fine_pruning"),
    "divprune": ("div_prune",),
    "divprune_by_frame": ("div_prune_by_frame",),
    "seats": ("seats_entrance", "seats_stages"),
    "omnipack": ("omnipack_entrance", "omnipack_diversity"),
}

HookClass = TypeVar("HookClass", bound=type[LayerHook])


def register_hook(hook_class: HookClass) -> HookClass:
    """Make a LayerHook class known by its `name`; usable as a decorator.

    The name is also that of the method made of this hook alone, unless there is such a method.

    Raises:
        HookError: not a LayerHook class, no name, or a name that is taken or holds a "+".
    """
    if not (isinstance(hook_class, type) and issubclass(hook_class, LayerHook)):
        raise HookError(f"register_hook() takes a LayerHook class, got {hook_class!r}.")
    name = hook_class.name
    if not isinstance(name, str) or not name:
        raise HookError(f"{hook_class.__name__} has no name. Give the class one: name = 'my_hook'.")
    if "+" in name:
        raise HookError(f"The hook name {name!r} holds a '+', which joins methods. Choose another.")
    if HOOKS.get(name, hook_class) is not hook_class:
        raise HookError(
            f"The hook name {name!r} is taken by {HOOKS[name].__name__}. Choose another."
        )
    if METHODS.get(name, (name,)) != (name,):
        raise HookError(f"The hook name {name!r} is taken by a method. Choose another.")
    HOOKS[name] = hook_class
    if (name,) not in METHODS.values():
        METHODS[name] = (name,)
    return hook_class


def find_hook(name: str) -> type[LayerHook]:
    """The registered class of a name.

    Raises:
        ConfigError: no such hook.
    """
    if name not in HOOKS:
        raise unknown_name("hook", name, sorted(HOOKS), ". Add one with register_hook().")
    return HOOKS[name]


class LayerHookList(list[LayerHook]):
    """Hooks in the order in which they are asked at a layer."""

    def __repr__(self) -> str:
        return f"LayerHookList({super().__repr__()})"

    def at(self, layer: int, num_layers: int) -> "LayerHookList":
        """The hooks that are called at one layer, or at ENTRANCE."""
        return LayerHookList(hook for hook in self if layer in hook.layers(num_layers))

    def places(self, num_layers: int) -> frozenset[int]:
        """All layers, ENTRANCE among them, at which some hook is called.

        Raises:
            HookError: a layer that the model does not have, or one below which there is no
                attention for a hook that needs it.
        """
        found: set[int] = set()
        for hook in self:
            wanted = hook.layers(num_layers)
            wrong = [layer for layer in wanted if not ENTRANCE <= layer < num_layers]
            if wrong:
                raise HookError(
                    f"{type(hook).__name__} asks for layers {sorted(wrong)}; the model has layers "
                    f"0..{num_layers - 1}, and ENTRANCE is {ENTRANCE}."
                )
            first = min(wanted, default=1)
            if (hook.needs_scores or hook.needs_rollout) and first < 1:
                needed = "scores" if hook.needs_scores else "rollout"
                raise HookError(
                    f"{type(hook).__name__} needs {needed} at layer {first}, but there is no "
                    "attention layer below."
                )
            found |= wanted
        return frozenset(found)

    @classmethod
    def from_list(cls, items: Iterable[Any]) -> Self:
        """Hooks given as objects or as their `to_dict()` data."""
        hooks = cls()
        for item in items:
            if isinstance(item, Mapping):
                values = dict(item)
                hook_class = find_hook(str(values.pop("name", "")))
                try:
                    hooks.append(hook_class(**values))
                except TypeError as error:
                    raise ConfigError(
                        f"Wrong data for hook {hook_class.name!r}: {error}."
                    ) from error
            elif isinstance(item, LayerHook):
                hooks.append(item)
            else:
                raise HookError(f"`hooks` holds LayerHook objects, got {type(item).__name__}.")
        return hooks


def method_hooks(config: FastAVConfig) -> LayerHookList:
    """The hooks that a config asks for: its own, or those its method names.

    Raises:
        ConfigError: an unknown method, or one that names a hook twice.
    """
    if config.hooks is not None:
        return LayerHookList.from_list(config.hooks)
    names = check_method(config.method)
    return LayerHookList(find_hook(name).from_config(config) for name in names)


def check_method(method: str) -> list[str]:
    """The names of the hooks that a method is made of, or several joined by "+".

    Raises:
        ConfigError: an unknown method, or one that names a hook twice.
    """
    names: list[str] = []
    for part in method.split("+"):
        if part not in METHODS:
            remedy = ", joined by '+' where several are wanted."
            raise unknown_name("method", part, sorted(METHODS), remedy)
        names.extend(METHODS[part])
    if len(set(names)) < len(names):
        raise ConfigError(f"`method` names a hook twice: {method!r}.")
    return names
