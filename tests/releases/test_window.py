from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.releases.errors import CannotRun
from tests.releases.groups import GROUPS
from tests.releases.window import ROOT, window


def test_the_window_is_what_the_package_states() -> None:
    from fastav_plugin.upstream.releases import NEWEST, OLDEST

    assert window() == (OLDEST, NEWEST)


def test_the_tests_of_every_group_exist() -> None:
    named = [path for group in GROUPS.values() for path in (*group.paths, *group.quick)]
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path.partition("::")[0]).exists()] == []


def test_constraints_pin_the_newest() -> None:
    pinned = re.search(r"^transformers==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None and pinned.group(1) == window()[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "^releases.py is missing, which states OLDEST and NEWEST.$"),
        ("OLDEST = '1.0'", "^releases.py holds no string NEWEST.$"),
        ("OLDEST, NEWEST = '1', '2'", "no string OLDEST and no string NEWEST"),
        ("OLDEST = '1.0'\nNEWEST = 2", "no string NEWEST"),
    ],
)
def test_without_a_window(tmp_path: Path, text: str | None, message: str) -> None:
    source = tmp_path / "releases.py"
    if text is not None:
        source.write_text(text)
    with pytest.raises(CannotRun, match=message):
        window(source)


def test_processes_of_tests_see_the_release_as_well() -> None:
    """A PYTHONPATH that replaces the runner's would test the pinned release instead."""
    assigned = re.compile(r'"PYTHONPATH"\s*: (?!with_checkout\(\)|os\.pathsep\.join\()')
    for path in (ROOT / "tests").rglob("*.py"):
        assert not assigned.search(path.read_text()), path
