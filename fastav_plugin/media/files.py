"""Media files opened with PyAV, and their faults as one error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint


def pyav() -> Any:
    """The module `av`."""
    try:
        import av
    except ImportError as error:
        raise UnsupportedError(
            f"Reading media files needs PyAV. {install_hint('media')}"
        ) from error
    return av


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An open container; whatever PyAV raises while the block runs becomes a ConfigError."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            yield container
    except ConfigError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ConfigError(f"Cannot read the media file '{path}': {error}") from error
