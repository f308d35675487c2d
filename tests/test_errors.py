import pytest

from fastav_plugin import errors
from fastav_plugin.errors import FastAVError

BUILTINS = {
    "ConfigError": ValueError,
    "TokenMapError": ValueError,
    "UnsupportedError": TypeError,
    "HookError": TypeError,
    "StateError": RuntimeError,
}


@pytest.mark.parametrize("name", BUILTINS)
def test_every_error_is_a_fastav_error_and_a_builtin(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, FastAVError)
    assert issubclass(kind, BUILTINS[name])


def test_the_tree_is_complete_and_drawn() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == {"FastAVError", *BUILTINS}
    drawn = errors.__doc__ or ""
    for name, builtin in BUILTINS.items():
        assert f"{name} ({builtin.__name__})" in drawn
