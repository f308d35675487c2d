"""The ways to launch: the wrapper, the literal command, the variable alone; and wrong launches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tgi_real.cases import CASES
from tests.tgi_real.router import Arrival, Router
from tests.tgi_real.setting import ROOT, SHIMS, Setting
from tests.tgi_real.shards import Shards

STAND_IN = ROOT / "tests/model_overrides/tgi/stand_in_launcher.py"
NAME, METHOD = "llava", "fastav"


@contextmanager
def stand_in() -> Iterator[str]:
    """PATH with a stand-in for TGI's launcher, which is Rust: what it does is in its own words."""
    with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
        command = Path(folder) / "text-generation-launcher"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
        command.chmod(0o755)
        yield f"{folder}{os.pathsep}{os.environ['PATH']}"


def options(setting: Setting) -> list[str]:
    """Of ours, in both ways to write them."""
    return [
        *("--model-override", METHOD),
        f"--fastav-config={setting.config_file(NAME, METHOD)}",
        *("--fastav-media-dir", str(setting.files.folder)),
    ]


def launched(
    setting: Setting,
    command: list[str],
    path: str,
    *,
    shards: int = 1,
    more: dict[str, str] | None = None,
) -> None:
    """Start shards through a launcher, ask them, and end it."""
    check, count = setting.report.check, shards
    own = ["--model-id", str(setting.checkpoint(NAME)), "--num-shard", str(count)]
    environment = {"PATH": path, "FASTAV_TGI_SHARDING": "tensor", **(more or {})}
    asks = CASES[NAME].asked(setting.files)[:4]
    wanted = [setting.alone(NAME, METHOD, ask) for ask in asks]
    with Shards([*command, *own], count, environment, direct=False) as server:
        setting.greet(server)
        answers = Router(server).run([Arrival(ask, number) for number, ask in enumerate(asks)])
        tokens = [answer.tokens for answer in answers]
        check("tokens equal generate()", tokens == wanted, "" if tokens == wanted else str(answers))
        log = server.log.read_text()
        ours = [line for line in log.splitlines() if "fastav" in line]
        check(
            "the plugin's lines are in TGI's log", bool(ours), ours[0][:150] if ours else log[-900:]
        )
        statuses = server.stop()
        check("SIGTERM ends it with TGI's status", statuses == [0], str(statuses))


def wrapper(setting: Setting) -> None:
    """fastav-tgi-launcher with two tensor-parallel shards."""
    with stand_in() as path:
        launched(setting, ["fastav-tgi-launcher", *options(setting)], path, shards=2)


def literal(setting: Setting) -> None:
    """text-generation-launcher --model-override with the shims first on PATH."""
    with stand_in() as path:
        whole = f"{SHIMS}{os.pathsep}{path}"
        launched(setting, [str(SHIMS / "text-generation-launcher"), *options(setting)], whole)


def variable(setting: Setting) -> None:
    """FASTAV_MODEL_OVERRIDE alone, as in a container."""
    with stand_in() as path:
        whole = f"{SHIMS}{os.pathsep}{path}"
        more = setting.environment(NAME, METHOD)
        more = {name: value for name, value in more.items() if name.startswith("FASTAV")}
        launched(setting, [str(SHIMS / "text-generation-launcher")], whole, more=more)


def wrong(setting: Setting) -> None:
    """Launches that must fail, and say why."""
    model = ["--model-id", str(setting.checkpoint(NAME))]
    attempts = {
        "an unknown override": (["--model-override", "fastest"], "fastav, divprune"),
        "a config of another method": (
            ["--model-override", "divprune", "--fastav-config"]
            + [str(setting.config_file(NAME, METHOD))],
            "divprune",
        ),
        "--quantize": ([*options(setting), "--quantize", "gptq"], "quantize"),
    }
    with stand_in() as path, tempfile.TemporaryDirectory(prefix="tgi-") as folder:
        for name, (given, words) in attempts.items():
            ended = subprocess.run(
                ["fastav-tgi-launcher", *model, *given, "--shard-uds-path", f"{folder}/s"],
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            said = ended.stdout + ended.stderr
            lines = [line for line in said.replace("\\n", "\n").splitlines() if words in line]
            line = lines[-1] if lines else said[-300:]
            failed = ended.returncode not in (0, -signal.SIGKILL) and words in said
            setting.report.check(f"{name} fails", failed, f"{ended.returncode}: {line[:200]}")


GROUPS: dict[str, Callable[[Setting], None]] = {
    "launcher": wrapper,
    "literal command": literal,
    "variable alone": variable,
    "wrong launches": wrong,
}
