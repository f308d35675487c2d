"""Lines of ours in TGI's log."""

from __future__ import annotations

import logging
from typing import Any

#: TGI's log takes records of modules whose name begins with its package's.
NAME = "text_generation_server.fastav"


def log(level: str, message: str) -> None:
    """Write one line to TGI's log, "fastav: " before it.

    Args:
        level: "debug", "info", "warning" or "error".
        message: the line; braces stay as they are.
    """
    from loguru import logger

    def rename(record: Any) -> None:
        record["name"] = NAME

    logger.patch(rename).log(level.upper(), "fastav: {}", message)


class _ToTgi(logging.Handler):
    """Hands records of this package's loggers on to TGI's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log(record.levelname.lower(), record.getMessage().removeprefix("fastav: "))


def route_log() -> None:
    """Let what this package logs, from "info" up, appear in TGI's log; safe to call twice."""
    logger = logging.getLogger("fastav_plugin")
    if not any(isinstance(handler, _ToTgi) for handler in logger.handlers):
        logger.addHandler(_ToTgi())
        logger.setLevel(logging.INFO)
        logger.propagate = False
