"""The bytes of a medium: from a file, a `data:` URI or an allowed host."""

import base64
import binascii
import os
import re
import stat
from pathlib import Path

from fastav_plugin.serving.media.download import download
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy, variable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def read_source(kind: str, source: str, policy: MediaPolicy) -> bytes:
    """Read a medium as it is encoded.

    Args:
        kind: "image", "video" or "audio"; a `data:` URI must declare the same.
        source: a path below the media folder, a `data:` URI or an http(s) address.
        policy: what may be read.

    Raises:
        MediaError: it may not be read, is missing or too large.
    """
    scheme = _SCHEME.match(source)
    name = scheme[1].lower() if scheme else None
    if name == "data":
        return _inline(kind, source, policy)
    if name in ("http", "https"):
        return download(source, policy)
    if name is not None:
        raise MediaError(
            f"the scheme '{name}' is none of data, http and https.", reason="not_allowed"
        )
    return _file(source, policy)


def check_size(size: int, policy: MediaPolicy) -> None:
    """Refuse what is larger than one medium may be."""
    if size > policy.max_bytes:
        raise MediaError(
            f"{size} bytes are more than the {policy.max_bytes} that are allowed "
            f"({variable('max_bytes')}).",
            reason="limit",
        )


def _inline(kind: str, source: str, policy: MediaPolicy) -> bytes:
    head, comma, payload = source[len("data:") :].partition(",")
    declared, *parameters = [part.strip().lower() for part in head.split(";")]
    if not comma or "base64" not in parameters:
        raise MediaError("a data: URI must be base64.")
    if declared.split("/")[0] != kind:
        raise MediaError(f"it declares the type '{declared}', which is no {kind}.")
    check_size(len(payload) * 3 // 4 - payload[-2:].count("="), policy)
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"its base64 is damaged ({error}).") from error


def _file(source: str, policy: MediaPolicy) -> bytes:
    if policy.media_dir is None:
        raise MediaError(
            "this server reads no files: it was started without a media folder.",
            reason="not_allowed",
        )
    # One answer for every file that is missing or outside, so that requests map no disk. What leads
    # outside as it is spelled is not even looked up: whether that fails would tell as much.
    absent = MediaError("there is no such file below the media folder.", reason="not_allowed")
    spelled = Path(os.path.normpath(policy.media_dir / source))
    if "\0" in source or not spelled.is_relative_to(policy.media_dir):
        raise absent
    try:
        path = spelled.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise absent from None
    if not path.is_relative_to(policy.media_dir):
        raise absent
    try:
        descriptor = _descriptor(policy.media_dir, path)
    except OSError:
        raise absent from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError("it is no regular file.", reason="not_allowed")
        check_size(status.st_size, policy)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(policy.max_bytes + 1)  # one that grows meanwhile
    except OSError as error:
        raise MediaError(f"it cannot be read ({error.strerror}).", reason="unavailable") from error
    finally:
        os.close(descriptor)
    check_size(len(data), policy)
    return data


def _descriptor(folder: Path, path: Path) -> int:
    """Open a resolved path step by step, so that no link put in its way meanwhile is followed.

    A pipe without a writer is opened, not waited for.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    *parents, name = path.relative_to(folder).parts or (".",)
    place = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for parent in parents:
            inner = os.open(parent, flags | os.O_DIRECTORY, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(name, flags, dir_fd=place)
    finally:
        os.close(place)
