"""Help that is never cut: panels of options where they fit, plain text in a narrower terminal."""

import shutil
from typing import Any

#: Panels of typer shorten names of options in fewer columns.
PANELS = 100


def fit_help(command: Any) -> None:
    """Choose the form of help of a group's commands by the width of the terminal."""
    wide = shutil.get_terminal_size().columns >= PANELS
    for each in getattr(command, "commands", {}).values():
        fit_help(each)
        # The list of a group's commands is wrapped in panels, and shortened without them.
        if not hasattr(each, "commands"):
            each.rich_markup_mode = "rich" if wide else None
