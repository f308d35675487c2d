import pytest

from fastav_plugin import errors
from fastav_plugin.errors import FastAVError, did_you_mean, in_short, unknown_name

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


@pytest.mark.parametrize(
    ("given", "guess"),
    [
        ("fastva", " Did you mean 'fastv' or 'fastav'?"),
        ("FASTAV", " Did you mean 'fastav'?"),
        ("keep", " Did you mean 'visual_keep_ratio'?"),
        ("visual_keep_ratios", " Did you mean 'visual_keep_ratio'?"),
        ("zzz", ""),
        ("v", ""),
        (7, ""),
        ("", ""),
    ],
)
def test_the_likeliest_names(given: object, guess: str) -> None:
    assert did_you_mean(given, ["divprune", "fastav", "fastv", "visual_keep_ratio"]) == guess


def test_there_is_no_likely_name_among_none() -> None:
    assert did_you_mean("fastav", []) == ""


def test_an_unknown_name_is_named_with_those_there_are() -> None:
    error = unknown_name("table", "fig44", iter(["fig4", "table2"]), ", or none.")
    assert str(error) == (
        "Unknown table 'fig44'. Did you mean 'fig4'? Known: fig4, table2, or none."
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("The file is cut.\nTraceback of it", "The file is cut."),
        ("Validation error for field 'a':\n    TypeError: expected int", None),
        ("", "ValueError"),
        ("  \n x", "x"),
    ],
)
def test_the_error_of_a_library_in_one_line(text: str, line: str | None) -> None:
    assert in_short(ValueError(text)) == (
        line or "Validation error for field 'a': TypeError: expected int"
    )
