"""What a server may read for a request, and how large it may be."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fastav_plugin.errors import ConfigError, FastAVError

#: Variables of a launch. A limit's own is PREFIX with the field's name in capitals.
PREFIX = "FASTAV_MEDIA_"
MEDIA_DIR = PREFIX + "DIR"
MEDIA_HOSTS = PREFIX + "HOSTS"
PRIVATE_HOSTS = PREFIX + "PRIVATE_HOSTS"


#: Why a medium is refused: its host, file or scheme may not be read; the host or the disk does not
#: hand it out; it is larger than allowed; its bytes cannot be decoded.
Refusal = Literal["not_allowed", "unavailable", "limit", "unreadable"]


class MediaError(FastAVError, ValueError):
    """A medium of a request that may not, or cannot, be read: the request's fault, not ours.

    Args:
        sentence: what is wrong.
        reason: in one word, for counters.
    """

    def __init__(self, sentence: str, *, reason: Refusal = "unreadable") -> None:
        super().__init__(sentence)
        self.reason: Refusal = reason


@dataclass(frozen=True)
class MediaPolicy:
    """What requests may name. The default allows `data:` URIs alone.

    Attributes:
        media_dir: folder that files are read from; None for no files.
        allowed_hosts: hosts that http(s) addresses may name, in lower case: "example.org" for the
            scheme's own port, "example.org:8080" for another.
        max_bytes: of one medium, encoded.
        max_pixels: of one picture or frame.
        max_frames: of one video, as encoded.
        max_video_pixels: of all frames of one video: what decoding it costs.
        max_seconds: of one video or sound.
        max_decoded_bytes: of all media of one request, as they are handed to the model's processor.
        max_per_request: media in one request.
        timeout: seconds that the downloads of one request may take altogether.
        max_redirects: followed, each of them checked like the first address.
        allow_private: whether allowed hosts may have private addresses: for tests and closed
            networks. The list of hosts still holds.

    Raises:
        ConfigError: a folder that does not exist, or a limit that is not positive.
    """

    media_dir: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    max_bytes: int = 64 * 2**20
    max_pixels: int = 2**25
    max_frames: int = 18_000
    max_video_pixels: int = 2**34
    max_seconds: float = 600.0
    max_decoded_bytes: int = 2**30
    max_per_request: int = 32
    timeout: float = 10.0
    max_redirects: int = 3
    allow_private: bool = False

    def __post_init__(self) -> None:
        if self.media_dir is not None:
            try:
                folder = Path(self.media_dir).resolve(strict=True)
            except (OSError, RuntimeError) as error:
                raise ConfigError(f"Cannot open the media folder: {error}.") from error
            if not folder.is_dir():
                raise ConfigError(f"The media folder '{self.media_dir}' is no folder.")
            object.__setattr__(self, "media_dir", folder)
        for name in _LIMITS:
            value = getattr(self, name)
            if not (value > 0 or (value == 0 and name == "max_redirects")) or math.isinf(value):
                raise ConfigError(f"`{name}` must be positive and finite, got {value}.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> MediaPolicy:
        """Read the variables of a launch; what is unset or empty keeps its default.

        FASTAV_MEDIA_DIR, FASTAV_MEDIA_HOSTS (separated by commas), FASTAV_MEDIA_PRIVATE_HOSTS
        ("1" for `allow_private`), and FASTAV_MEDIA_MAX_BYTES and so on for the limits.

        Args:
            environment: None for the process's own.

        Raises:
            ConfigError: a value that is none, or a folder that does not exist.
        """
        found = os.environ if environment is None else environment
        private = found.get(PRIVATE_HOSTS, "")
        if private not in ("", "0", "1"):
            raise ConfigError(f"`{PRIVATE_HOSTS}` must be 0 or 1, got '{private}'.")
        hosts = (host.strip() for host in found.get(MEDIA_HOSTS, "").split(","))
        limits = {
            name: _number(variable(name), found[variable(name)], kind)
            for name, kind in _LIMITS.items()
            if found.get(variable(name))
        }
        policy = cls(
            media_dir=Path(found[MEDIA_DIR]) if found.get(MEDIA_DIR) else None,
            allowed_hosts=frozenset(_listed(host) for host in hosts if host),
            allow_private=private == "1",
        )
        return dataclasses.replace(policy, **limits)  # type: ignore[arg-type]

    def check_pixels(self, width: int, height: int) -> None:
        """Raise MediaError for a picture or frame that is too large."""
        if width * height > self.max_pixels:
            raise MediaError(
                f"{width} x {height} pixels are more than the {self.max_pixels} that are allowed "
                f"({variable('max_pixels')}).",
                reason="limit",
            )

    def check_all_pixels(self, pixels: int) -> None:
        """Raise MediaError for so many pixels of all frames of a video."""
        if pixels > self.max_video_pixels:
            raise MediaError(
                f"{pixels} pixels of all its frames are more than the {self.max_video_pixels} that "
                f"are allowed ({variable('max_video_pixels')}).",
                reason="limit",
            )

    def check_bytes(self, size: int, what: str) -> None:
        """Raise MediaError for so many decoded bytes, of `what`."""
        if size > self.max_decoded_bytes:
            raise MediaError(
                f"{size} {what} are more than the {self.max_decoded_bytes} that are allowed "
                f"({variable('max_decoded_bytes')}), or that other media of the request left.",
                reason="limit",
            )

    def check_seconds(self, seconds: float) -> None:
        """Raise MediaError for a video or sound that lasts so long."""
        if seconds > self.max_seconds:
            raise MediaError(
                f"it lasts longer than the {self.max_seconds:g} s that are allowed "
                f"({variable('max_seconds')}).",
                reason="limit",
            )


#: The numbers among the fields, with their types.
_LIMITS: dict[str, type[int] | type[float]] = {
    field.name: float if field.type == "float" else int
    for field in dataclasses.fields(MediaPolicy)
    if field.type in ("int", "float")
}


def variable(limit: str) -> str:
    """The variable of a launch that sets a limit, for whoever is refused by it."""
    return PREFIX + limit.upper()


def normal_host(host: str) -> str:
    """A host as allowed ones are compared: in lower case, without a last dot, ASCII.

    Raises:
        ValueError: it is none.
    """
    host = host.rstrip(".").lower()
    return str(ipaddress.IPv6Address(host)) if ":" in host else host.encode("idna").decode()


def _listed(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = normal_host(parts.hostname or ""), parts.port
        if not host or parts.netloc != text or any(sign in "@*%\\" or sign <= " " for sign in text):
            raise ValueError(text)
    except ValueError:
        raise ConfigError(
            f"`{MEDIA_HOSTS}` must name hosts as example.org or example.org:8080, got '{text}'."
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _number(name: str, value: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"`{name}` must be a number, got '{value}'.") from None
