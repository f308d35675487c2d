"""python -m tests.releases: run the test groups on several releases of transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tests.releases.errors import CannotRun
from tests.releases.folder import check_dependencies, release_folder
from tests.releases.groups import GROUPS
from tests.releases.run import Plan, run
from tests.releases.table import as_json, lines
from tests.releases.window import ROOT, window
from tests.support.programs import Parser

PROGRAM = "python -m tests.releases"
DESCRIPTION = """\
Run the test groups on several releases of transformers.

Each release is installed once into .releases/VERSION, without its dependencies:
the installed ones are checked against what it asks for, and torch is shared.
Progress and pytest's output go to stderr, the table to stdout. Exit status 0 if
all passed, 1 if a test failed or a group ran no test, 2 if nothing could run."""
EXAMPLE = f"{PROGRAM} 5.24.0 --group turns --group serve -n 4"
NAMES = f"test group, may be repeated: {', '.join(GROUPS)}; default: all"


def main(arguments: Sequence[str] | None = None, within: Path = ROOT / ".releases") -> int:
    parser = Parser(PROGRAM, DESCRIPTION, EXAMPLE)
    add = parser.add_argument
    add("versions", nargs="*", metavar="VERSION", help="default: oldest and newest of the window")
    add("--quick", action="store_true", help="the subset for continuous integration")
    add("--group", action="append", choices=list(GROUPS), metavar="NAME", help=NAMES)
    add("-k", dest="keyword", metavar="EXPRESSION", help="only tests that match, as in pytest")
    add("-n", dest="workers", type=int, default=2, metavar="N", help="processes, default 2")
    add("--json", action="store_true", help="print the table as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.workers < 0:
        parser.error(f"-n must be 0 or more, got {chosen.workers}")
    for version in chosen.versions:
        try:
            Version(version)
        except InvalidVersion:
            parser.error(f"no release number: '{version}'. Example: 5.24.0")
    plan = Plan(chosen.quick, chosen.keyword, chosen.workers, chosen.group or tuple(GROUPS))
    try:
        folders = {}
        for version in chosen.versions or window():
            folders[version] = _prepare(version, within)
        results = []
        for version, folder in folders.items():
            _say(f"transformers {version}: running tests")
            results.append(run(version, folder, plan))
            _say(f"transformers {version}: {results[-1].seconds:.0f} s")
    except CannotRun as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    if chosen.json:
        print(json.dumps(as_json(results), indent=2))
    else:
        print(*lines(results), sep="\n")
    return int(any(result.problems() for result in results))


def _prepare(version: str, within: Path) -> Path:
    """Install a release, unless it is there, and check its dependencies."""
    folder, fresh = release_folder(version, within)
    _say(f"transformers {version}: {'installed' if fresh else 'is'} in {within.name}/{version}")
    check_dependencies(folder, version)
    return folder


def _say(text: str) -> None:
    print(f"tests.releases: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
