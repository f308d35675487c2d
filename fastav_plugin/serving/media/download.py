"""Downloads from allowed hosts: to a public address that was checked, and to no other."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from fastav_plugin.serving.media.policy import MediaError, MediaPolicy, normal_host, variable

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 2**16

#: Its last 32 bits are an IPv4 address that a translator connects to.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
#: Networks that no public host has, whatever the tables of this Python say of them.
_NO_HOSTS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # translators of one site
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # one site
    )
)


def is_public(text: str) -> bool:
    """Whether an address belongs to the open internet, and so does the one it carries, if any."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped
        if address in _TRANSLATED:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    if any(address in network for network in _NO_HOSTS):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def download(url: str, policy: MediaPolicy) -> bytes:
    """Get the body of an http(s) address, of an allowed host and its redirects.

    Proxies named in the environment are not used: they would resolve names themselves.

    Args:
        url: the address.
        policy: hosts, size, time and redirects.

    Raises:
        MediaError: the host is not allowed or not public, the answer is no success, is too large
            or comes too late.
    """
    deadline = _Deadline(policy.timeout)
    for _ in range(policy.max_redirects + 1):
        found = _get(_Target.of(url, policy), policy, deadline)
        if isinstance(found, bytes):
            return found
        try:
            url = urljoin(url, found)
        except ValueError as error:
            raise MediaError(
                f"it was redirected to a malformed address ({error}).", reason="unavailable"
            ) from error
    raise MediaError(
        f"it was redirected more than {policy.max_redirects} times.", reason="unavailable"
    )


@dataclass(frozen=True)
class _Target:
    """One checked address."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, policy: MediaPolicy) -> _Target:
        try:
            parts: SplitResult = urlsplit(url)
            host, port = normal_host(parts.hostname or ""), parts.port
        except ValueError as error:  # UnicodeError too
            raise MediaError(f"the address is malformed ({error}).") from error
        if parts.scheme not in _PORTS or not host or parts.username is not None:
            raise MediaError("an address must be http(s)://host/path without a user name.")
        port = _PORTS[parts.scheme] if port is None else port
        shown = f"[{host}]" if ":" in host else host
        names = {f"{shown}:{port}"} | ({shown} if port == _PORTS[parts.scheme] else set())
        if not names & policy.allowed_hosts:
            raise MediaError(
                f"the host '{shown}:{port}' is not among those this server allows.",
                reason="not_allowed",
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or any(sign <= " " or sign == "\x7f" for sign in path):
            raise MediaError("an address must be percent-encoded ASCII.")
        return cls(parts.scheme, host, port, path)

    def addresses(self, policy: MediaPolicy, deadline: _Deadline) -> list[str]:
        """Every address of the host, all of them allowed."""
        found = deadline.resolve(self.host, self.port)
        for address in found:
            if not policy.allow_private and not is_public(address):
                raise MediaError(
                    f"the host '{self.host}' has an address that is not public.",
                    reason="not_allowed",
                )
        return found


def _get(target: _Target, policy: MediaPolicy, deadline: _Deadline) -> bytes | str:
    """The body, or the place a redirect points at."""
    connection = _connect(target, policy, deadline)
    try:
        with deadline.over(connection.sock):
            agent = {"User-Agent": "fastav-plugin", "Accept-Encoding": "identity"}
            connection.request("GET", target.path, headers=agent)
            # Without keep-alive the answer owns the socket, and the connection no longer does.
            with connection.getresponse() as answer:
                if answer.status in _REDIRECTS and answer.getheader("Location"):
                    return str(answer.getheader("Location"))
                return _body(answer, policy, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        deadline.check()
        raise MediaError(
            f"the download failed ({type(error).__name__}).", reason="unavailable"
        ) from error
    finally:
        connection.close()


def _body(answer: Any, policy: MediaPolicy, deadline: _Deadline) -> bytes:
    if answer.status != 200:
        raise MediaError(f"the host answered with status {answer.status}.", reason="unavailable")
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise MediaError(
            "the host compressed its answer, which was not asked for.", reason="unavailable"
        )
    data = bytearray()
    while len(data) + (answer.length or 0) <= policy.max_bytes:
        chunk = answer.read1(_CHUNK)
        if not chunk:
            break
        data += chunk
    else:
        raise MediaError(
            f"it has more than the {policy.max_bytes} bytes that are allowed "
            f"({variable('max_bytes')}).",
            reason="limit",
        )
    deadline.check()
    if answer.length:  # what the header promised and the body lacks
        raise MediaError("the download ended early.", reason="unavailable")
    return bytes(data)


def _connect(target: _Target, policy: MediaPolicy, deadline: _Deadline) -> Any:
    """A connection to an address that was checked; its name is not looked up again."""
    failure: OSError | None = None
    for address in target.addresses(policy, deadline):
        secure = target.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection: http.client.HTTPConnection = kind(target.host, target.port)
        connection.auto_open = 0
        try:
            connection.sock = socket.create_connection((address, target.port), deadline.left())
            if secure:
                connection.sock = _secured(connection.sock, target.host, deadline)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    deadline.check()
    raise MediaError(
        f"no connection to '{target.host}' ({type(failure).__name__}).", reason="unavailable"
    ) from failure


def _secured(plain: socket.socket, host: str, deadline: _Deadline) -> ssl.SSLSocket:
    """TLS with a certificate for the host's name, whatever address was connected to."""
    context = ssl.create_default_context()
    secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        with deadline.over(secured):
            secured.do_handshake()
    except (OSError, ValueError) as error:  # ValueError: cut off in the middle
        secured.close()
        raise OSError(str(error)) from error
    return secured


class _Deadline:
    """The time that a whole download may take, redirects and looking up names included."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the end.

        Raises:
            MediaError: none are left.
        """
        self.check()
        return max(0.001, self.end - time.monotonic())

    def check(self) -> None:
        """Raise once the time is over."""
        if time.monotonic() >= self.end:
            raise MediaError(
                f"the download took more than {self.seconds:g} s.", reason="unavailable"
            )

    def over(self, connected: Any) -> _Watch:
        """Cut a socket off at the end, however slowly it is fed."""
        connected.settimeout(self.left())
        return _Watch(connected, self.left())

    def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of a name. The resolver knows no time limit, so a thread waits for it."""
        found: list[Any] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.append(error)

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(self.left())
        if not found:
            raise MediaError(
                f"the download took more than {self.seconds:g} s.", reason="unavailable"
            )
        if isinstance(found[0], Exception):
            sentence = f"the host '{host}' has no address."
            raise MediaError(sentence, reason="unavailable") from found[0]
        return list(dict.fromkeys(str(entry[4][0]) for entry in found[0]))


class _Watch:
    """Shuts a socket down when its time is over."""

    def __init__(self, connected: Any, seconds: float) -> None:
        self.connected = connected
        self.timer = threading.Timer(seconds, self._cut)
        self.timer.daemon = True

    def _cut(self) -> None:
        try:
            self.connected.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed already

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
