"""The driver: start servers, ask them, compare every token."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging

from tests.tgi_real.groups import GROUPS
from tests.tgi_real.report import Report
from tests.tgi_real.setting import Setting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.tgi_real", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for models and media files")
    parser.add_argument("--only", action="append", default=[], choices=list(GROUPS))
    parser.add_argument("--load", action="store_true", help="also the load")
    parser.add_argument("--seed", type=int, default=0, help="of the load")
    parser.add_argument("--list", action="store_true", help="show the names of the checks and end")
    given = parser.parse_args(arguments)
    if given.list:
        print(
            "\n".join(
                f"{name:24}{(group.__doc__ or '').splitlines()[0]}"
                for name, group in GROUPS.items()
            )
        )
        return 0
    # A server of ours must not outlive a driver that is told to stop.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    report = Report()
    setting = Setting(report, given.folder, given.seed)
    for name, group in GROUPS.items():
        if name in given.only or (not given.only and (given.load or not name.startswith("load"))):
            with report.of(name):
                group(setting)
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
