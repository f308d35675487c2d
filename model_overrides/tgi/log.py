"""Lines of ours in TGI's log."""

from __future__ import annotations

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
