"""Groups of options: dataclasses whose fields a command takes as its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from fastav_plugin import ConfigError
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1, help="How wide.")] = 3
    height: int | None = None


WIDE = Size(width=7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.png"], ("a.png", Size(3), Size(7), False)),
        (["a.png", "--height", "2", "--quiet"], ("a.png", Size(3, 2), Size(7, 2), True)),
        (["a.png", "--width", "5"], ("a.png", Size(5), Size(5), False)),
    ],
)
def test_fields_are_options(arguments: list[str], expected: tuple[Any, ...]) -> None:
    """The defaults are the class's, or those of the parameter's own default."""
    found = []

    @grouped
    def plain(*, path: Annotated[Path, typer.Argument()], size: Size, quiet: bool = False) -> None:
        """Keep what was given."""
        found.append((str(path), size, quiet))

    @grouped
    def wide(
        *, path: Annotated[Path, typer.Argument()], size: Size = WIDE, quiet: bool = False
    ) -> None:
        found.append((str(path), size, quiet))

    for command in (plain, wide):
        app = typer.Typer()
        app.command()(command)
        assert CliRunner().invoke(app, arguments).exit_code == 0
    path, size, wider, quiet = expected
    assert found == [(path, size, quiet), (path, wider, quiet)]


def test_help_and_limits_are_those_of_the_fields() -> None:
    @grouped
    def command(*, size: Size) -> None:
        """Draw something."""

    app = typer.Typer()
    app.command()(command)
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "Draw something." in shown
    assert "How wide." in shown
    assert CliRunner().invoke(app, ["--width", "0"]).exit_code == 2


def test_a_group_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(ConfigError, match="`--sound` must be one of separate, interleaved, none"):
        Reading(sound="loud")
    with pytest.raises(ConfigError, match="`--dtype` must be one of auto, float32"):
        Machine(dtype="int3")
    with pytest.raises(ConfigError, match="`--device` 'abacus' cannot be used here"):
        Machine(device="abacus")
