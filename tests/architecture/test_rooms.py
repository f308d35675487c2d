"""Every module lies in a room; rooms are of a size that can be read, and say what they are for."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.architecture.imports import LEVELS, LINKED, PACKAGE, modules, room, rooms

ROOT = Path(__file__).parents[2]

#: Modules side by side in one folder.
MOST = 13
#: Folders of equals, in which each method and each family is one file.
OF_EQUALS = LINKED

#: What is loaded only by the command, the server or the study that needs it.
LATE = (
    *("analysis", "calibration", "cli", "evaluation", "lab", "media", "serving"),
    "model_overrides.tgi",
)


def test_every_room_has_its_modules() -> None:
    found = modules(ROOT)
    assert len(found) > 200
    count = Counter(room(name) for name in found)
    assert set(count) == set(rooms())
    # A room that is a folder holds its __init__ and more.
    folders = {name for name, path in found.items() if path.name == "__init__.py"} & set(rooms())
    assert len(folders) > 15
    assert [name for name in folders - {""} if count[name] < 3] == []


def test_the_table_of_levels_is_short() -> None:
    assert len(LEVELS) < 16
    assert len(rooms()) == len(set(rooms())) < 36


def test_no_folder_has_too_many_modules() -> None:
    found = modules(ROOT)
    count = Counter(path.parent for path in found.values() if not path.name.startswith("__"))
    crowded = {
        str(folder.relative_to(ROOT)): number
        for folder, number in count.items()
        if number > MOST and folder not in [ROOT / name for name in OF_EQUALS]
    }
    assert crowded == {}


def test_every_room_says_what_it_is_for() -> None:
    packages = [path for path in modules(ROOT).values() if path.name == "__init__.py"]
    assert len(packages) > 25
    for path in packages:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


LOADED = f"""
import sys
import {PACKAGE}
for name in {PACKAGE}.__all__:
    getattr({PACKAGE}, name)
print(*(name for name in sys.modules if name.startswith("{PACKAGE}.")))
"""


def test_importing_the_package_loads_no_study_command_or_server() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [name.removeprefix(f"{PACKAGE}.") for name in done.stdout.split()]
    assert {"cache", "attach", "hooks.base", "pruning"} <= set(found)
    known = set(modules(ROOT))
    assert set(LATE) <= known
    assert [name for name in found if f"{name}.".startswith(tuple(f"{x}." for x in LATE))] == []
