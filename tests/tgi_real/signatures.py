"""What the plugin and the hand-written double take for granted, held against the real package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import text_generation_server

from tests.model_overrides.tgi import signatures
from tests.tgi_real.setting import ALWAYS, ROOT, Setting


def compare(setting: Setting) -> None:
    """Classes, arguments and messages of TGI that the plugin and the double rely on."""
    check = setting.report.check
    place = Path(text_generation_server.__file__).resolve()
    check("the package is TGI's own", not place.is_relative_to(ROOT) and place.is_file())
    # Apart from this process: TGI's modules read variables and set up logs when imported.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.model_overrides.tgi.signatures"],
        cwd=ROOT,
        env={**os.environ, **ALWAYS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    count = len(signatures.PARAMETERS), len(signatures.MESSAGES)
    seen = f"{count[0]} functions, the fields of the batch, {count[1]} messages"
    said = (ended.stdout + ended.stderr)[-1500:]
    equal = ended.returncode == 0 and ended.stdout.splitlines()[-1] == "as expected"
    check("arguments and fields are those of the double", equal, seen if equal else said)
