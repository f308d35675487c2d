"""The command that installs a missing extra, which depends on how this package was installed.

The package is on no index so far, so the command must name the place that it comes from. That is
read from `direct_url.json` (PEP 610), which pip and uv write for everything that is not from an
index.
"""

import importlib.util
import json
import shlex
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME = "fastav-plugin"


def install_hint(extra: str) -> str:
    """Say how to install what an extra needs.

    Args:
        extra: an extra of setup.cfg, such as "media".

    Returns:
        "Install with: pip install ...", quoted for a POSIX shell.
    """
    return f"Install with: pip install {shlex.join(_arguments(extra))}"


#: A module of each package that an extra needs, as far as commands ask for it.
_MODULES = {"media": ("av", "PIL", "torchvision")}


def has_extra(extra: str) -> bool:
    """Whether what an extra needs can be imported; "media" alone is known."""
    return all(importlib.util.find_spec(name) is not None for name in _MODULES[extra])


def _arguments(extra: str) -> list[str]:
    installed = list(distributions(name=NAME))
    for found in installed:
        record = found.read_text("direct_url.json")
        if record:
            return _from_record(json.loads(record), found, extra)
    # Without a record: run from a checkout, installed from an index, or copied by hand.
    checkout = Path(__file__).resolve().parents[1]
    if _is_checkout(checkout):
        return [f"{checkout}[{extra}]"]
    if installed:
        return [f"{NAME}[{extra}]"]
    return [f"{NAME}[{extra}] @ file:///path/to/checkout"]


def _from_record(record: dict[str, Any], found: Distribution, extra: str) -> list[str]:
    url = record["url"]
    if "vcs_info" in record:
        origin = record["vcs_info"]
        # pip takes no git+file:// address without a host in it.
        url = url.replace("file:///", "file://localhost/", 1)
        source = f"{origin['vcs']}+{url}@{origin['commit_id']}"
        folder = record.get("subdirectory")
        return [f"{NAME}[{extra}] @ {source}" + (f"#subdirectory={folder}" if folder else "")]
    if urlsplit(url).scheme != "file":
        return [f"{NAME}[{extra}] @ {url}"]
    path = Path(url2pathname(urlsplit(url).path))
    if not (path.is_file() or _is_checkout(path)):
        return _requirements(found, extra)
    # Without -e pip would replace an editable installation with a copy.
    editable = record.get("dir_info", {}).get("editable", False)
    return [*(["-e"] if editable else []), f"{path}[{extra}]"]


def _requirements(found: Distribution, extra: str) -> list[str]:
    """What the extra itself requires: right wherever the package came from, but long."""
    lines = (line.replace("'", '"').partition(";") for line in found.requires or ())
    return [name.strip() for name, _, marker in lines if marker.strip() == f'extra == "{extra}"']


def _is_checkout(folder: Path) -> bool:
    settings = folder / "setup.cfg"
    return settings.is_file() and f"name = {NAME}\n" in settings.read_text(encoding="utf-8")
