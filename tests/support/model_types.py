"""What the installed release of transformers cannot do itself is skipped, with a reason."""

from __future__ import annotations

import importlib.util
from typing import Any

import transformers
from packaging.version import Version
from transformers.models.auto import configuration_auto
from transformers.utils import import_utils

#: Model types of the installed release.
KNOWN: Any = configuration_auto.CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

#: Families that generate() of older releases cannot repeat prompts of, as beams and samples do,
#: with or without pruning; and the first release that can.
REPEATED_SINCE = {"llava_next_video": "5.20.1"}

#: The first release that reads sounds, alone and in pipelines, without FFmpeg and librosa.
SOUND_SINCE = "5.23.0"


def require_model_type(model_type: str) -> None:
    """Skip the test, or the module, that asks for a family this release does not have."""
    if model_type not in KNOWN:
        _skip(f"has no model type '{model_type}'")


def require_repeated_prompts(family: str) -> None:
    """Skip the test that repeats prompts of a family where the stock model cannot."""
    since = REPEATED_SINCE.get(family)
    if since is not None and _is_before(since):
        _skip(f"cannot repeat prompts of {family}; {since} can")


def require_sound_pipelines() -> None:
    """Skip the test that makes a pipeline of a model with sound where that needs librosa."""
    if _is_before(SOUND_SINCE) and importlib.util.find_spec("librosa") is None:
        _skip(f"needs librosa for this pipeline; {SOUND_SINCE} does not")


def require_sound_files() -> None:
    """Skip the test that reads a sound where that needs FFmpeg, and there is none."""
    if _is_before(SOUND_SINCE) and not reads_video():
        _skip(f"needs FFmpeg to read sounds; {SOUND_SINCE} does not")


def reads_video() -> bool:
    """Whether transformers itself can read video files here: torchcodec finds an FFmpeg."""
    if not import_utils.is_torchcodec_available():
        return False
    usable = getattr(import_utils, "is_torchcodec_usable", None)
    if usable is not None:
        return bool(usable(decode="video"))
    try:  # before transformers 5.23
        import torchcodec
    except Exception:  # it raises what its shared libraries raise
        return False
    # torchcodec 0.16 and newer can be imported without FFmpeg, and says so.
    return getattr(torchcodec, "ffmpeg_major_version", True) is not None


def _is_before(release: str) -> bool:
    return Version(transformers.__version__) < Version(release)


def _skip(what: str) -> None:
    import pytest  # the canary builds families without it

    pytest.skip(f"transformers {transformers.__version__} {what}", allow_module_level=True)
