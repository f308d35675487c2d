"""python -m tests.pages.notebook: execute the notebook of the first hour, and write its outputs."""

from __future__ import annotations

import html
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.pages.markdown import ROOT
from tests.support.programs import Parser, with_checkout

NOTEBOOK = ROOT / "deploy" / "examples" / "first_hour.ipynb"
PROGRAM = "python -m tests.pages.notebook"
DESCRIPTION = """\
Execute deploy/examples/first_hour.ipynb and write it with its outputs.

Warnings of libraries on stderr are not kept."""
#: Seconds that a cell may take.
TIMEOUT = 300


def read(path: Path = NOTEBOOK) -> Any:
    """The committed notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def execute(notebook: Any, folder: Path) -> Any:
    """Run every cell of a notebook in a new kernel that writes to a folder; returns it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": with_checkout(),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "MPLBACKEND": "agg",
    }
    try:
        NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            coalesce_streams=True,
            # Else it warns that local connections are not encrypted.
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    finally:
        os.environ.clear()
        os.environ |= before
    for cell in notebook.cells:
        cell.metadata.clear()  # when each was run
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def texts(notebook: Any) -> list[tuple[str, list[str]]]:
    """Source of each code cell, and what it shows: printed, plain, and what HTML says."""
    return [
        (cell.source, [text for output in cell.outputs for text in _texts(output)])
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def pictures(notebook: Any) -> list[str]:
    """The pictures that cells show: PNG in base64."""
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    return [each.data["image/png"] for each in outputs if "image/png" in each.get("data", {})]


def _texts(output: Any) -> list[str]:
    data = output.get("data", {"text/plain": output.get("text", "")})
    shown = [str(data["text/plain"])] if "text/plain" in data else []
    if "text/html" in data:
        shown.append(" ".join(re.sub(r"<[^>]*>", " ", html.unescape(data["text/html"])).split()))
    return shown


def main() -> None:
    """Execute and write."""
    Parser(PROGRAM, DESCRIPTION, PROGRAM).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = execute(read(), Path(folder))
    nbformat.write(found, NOTEBOOK)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
