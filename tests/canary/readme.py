"""The install line of README.md, and the first example of the lab's page, which is offline."""

from __future__ import annotations

import re
import shlex

INSTALL = "## Install"
#: The pages below the checkout.
README, LAB = "README.md", "fastav_plugin/lab/README.md"


class NotFound(Exception):
    """A page does not hold what is looked for."""


def install_line(text: str) -> list[str]:
    """The arguments of the first `pip install .` of the section "Install".

    Raises:
        NotFound: there is no such section, block or line.
    """
    section = re.search(rf"^{INSTALL}$\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        raise NotFound(f"README.md has no section '{INSTALL}'")
    for block in _blocks(section.group(1), "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            # Of the checkout: ".", or "." with extras.
            if words[:2] == ["pip", "install"] and re.match(r"\.(\[|$)", words[-1]):
                return words[1:]
    raise NotFound(f"README.md shows no 'pip install .' below '{INSTALL}'")


def first_example(text: str) -> str:
    """The first Python block.

    Raises:
        NotFound: there is none.
    """
    found = _blocks(text, "python")
    if not found:
        raise NotFound(f"{LAB} shows no Python example")
    return found[0]


def _blocks(text: str, language: str) -> list[str]:
    return [
        str(block)
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
