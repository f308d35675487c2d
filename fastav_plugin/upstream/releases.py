"""The releases this package was tested with, and what is said of all others.

This is the one place that states the window: setup.cfg, constraints.txt, the README and the tests
follow it.
"""

import importlib
import sys
import threading
import warnings

from packaging.version import InvalidVersion, Version

from fastav_plugin.errors import UnsupportedError

#: The oldest and the newest release of transformers that the tests were run with.
OLDEST = "5.19.0"
NEWEST = "5.24.0"

#: The same for torch.
OLDEST_TORCH = "2.7.0"
NEWEST_TORCH = "2.15.0"

_TESTED = {"transformers": (OLDEST, NEWEST), "torch": (OLDEST_TORCH, NEWEST_TORCH)}
_PACKAGE = __name__.split(".")[0]

#: Releases that were warned of in this process.
_warned: set[str] = set()
_WARNING = threading.Lock()


def installed(package: str = "transformers") -> str:
    """The version that "transformers" or "torch" states of itself."""
    # transformers makes its module anew when the first model is imported.
    return str(importlib.import_module(package).__version__)


def tested(package: str = "transformers") -> str:
    """The tested window, for messages."""
    return " to ".join(_TESTED[package])


def _install(package: str = "transformers") -> str:
    """The command that installs a tested release."""
    oldest, newest = _TESTED[package]
    return f"pip install '{package}>={oldest},<={newest}'"


def missing(name: str, package: str = "transformers") -> UnsupportedError:
    """The error for a name that is not where the tested releases have it.

    `name` says what and where, e.g. "the variable `x` of GenerationMixin.generate".
    """
    return UnsupportedError(
        f"The installed {package} {installed(package)} lacks {name}, which fastav_plugin relies "
        f"on. The tested releases {tested(package)} have it: {_install(package)}."
    )


def check_release() -> None:
    """Refuse releases older than the window; warn once of one that is newer, or not final."""
    found = installed()
    try:
        version = Version(Version(found).public)  # a local build label says nothing of the code
    except InvalidVersion:
        raise UnsupportedError(
            f"The installed transformers states '{found}' as its version, which cannot be compared "
            f"with the tested releases {tested()}. Install one of them: {_install()}."
        ) from None
    if version < Version(OLDEST):
        raise UnsupportedError(
            f"transformers {found} is too old for fastav_plugin: the oldest supported release is "
            f"{OLDEST}. Install {tested()}: {_install()}."
        )
    if version > Version(NEWEST):
        what = f"is newer than {NEWEST}, the newest tested release"
    elif version.is_prerelease:
        what = f"is not a final release; tested are {tested()}"
    else:
        return
    with _WARNING:
        if found in _warned:
            return
        _warned.add(found)
    warnings.warn(
        f"transformers {found} {what} of fastav_plugin. Pruning goes on, and stops with an error "
        "at the first thing that is not as it was tested.",
        UserWarning,
        stacklevel=_frames_of_ours(),
    )


def _frames_of_ours() -> int:
    """How many calls up the code stands that is not of this package, for warnings."""
    count, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        count, frame = count + 1, frame.f_back
    return count
