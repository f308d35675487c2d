"""python -m tests.canary: does the package work with the newest of everything?"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.canary.checks import Check, Place, say
from tests.support.programs import Parser

PROGRAM = "python -m tests.canary"
DESCRIPTION = """\
Install the newest of everything in a new environment, and see what breaks.

Runs the README's install line without constraints, the first Python example
of the lab's page, `fastav inspect` on the shipped model, and pruned
generate() against masked dense in three families. Five lines on stdout say
what broke; progress and the output of what broke go to stderr. Needs Python
3.11 and nothing installed; torch is several gigabytes. Exit status 0 if all is
well, 1 if anything broke, 2 if an option is wrong."""
EXAMPLE = f"{PROGRAM} --json --keep"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(PROGRAM, DESCRIPTION, EXAMPLE)
    add = parser.add_argument
    add("--constraint", type=Path, metavar="FILE", help="for pip's -c; default: the newest")
    add("--keep", action="store_true", help="keep the environment and say where it is")
    add("--json", action="store_true", help="print JSON instead of the five lines")
    chosen = parser.parse_args(arguments)
    constraint = chosen.constraint
    if constraint is not None and not constraint.is_file():
        parser.error(f"no such file: '{constraint}'")
    folder = Path(tempfile.mkdtemp(prefix="fastav-canary-"))
    try:
        checks = list(Place(folder, constraint and constraint.resolve()).checks())
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if chosen.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(as_json(checks) if chosen.json else "\n".join(check.line() for check in checks))
    return int(not all(check.ok for check in checks))


def as_json(checks: Sequence[Check]) -> str:
    """One object for each check."""
    return json.dumps([dataclasses.asdict(check) for check in checks], indent=2)


if __name__ == "__main__":
    sys.exit(main())
