"""Downloads, from a real server on this machine."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin.serving.media.download import download
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from tests.serving.media.media_server import Handler, Server


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    Handler.asked = []
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and their addresses; any other name is asked of this machine."""
    known: dict[str, list[str]] = {}
    stock = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        addresses = known.get(host, [host])
        return [entry for one in addresses for entry in stock(one, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


Open = Callable[..., bytes]


@pytest.fixture
def get(server: http.server.HTTPServer, names: dict[str, list[str]]) -> Open:
    """Get a path of the server as host media.test, allowed to be private."""
    port = server.server_port

    def get(path: str, **settings: Any) -> bytes:
        names["media.test"] = ["127.0.0.1"]
        hosts = frozenset({f"media.test:{port}"})
        defaults: dict[str, Any] = {"allowed_hosts": hosts, "allow_private": True, "timeout": 5.0}
        return download(f"http://media.test:{port}/{path}", MediaPolicy(**defaults | settings))

    return get


def test_a_body(get: Open, server: http.server.HTTPServer) -> None:
    assert get("bytes/5") == b"xxxxx"
    assert Handler.asked == [("/bytes/5", f"media.test:{server.server_port}")]
    assert get("unsized/200000") == b"x" * 200_000


@pytest.mark.parametrize("path", ["bytes/101", "unsized/101", "endless/"])
def test_more_than_is_allowed(path: str, get: Open) -> None:
    assert get("bytes/100", max_bytes=100) == get("unsized/100", max_bytes=100)
    with pytest.raises(MediaError, match="more than the 100 bytes"):
        get(path, max_bytes=100)


@pytest.mark.parametrize("path", ["drip/", "headers/"])
def test_a_host_that_takes_its_time(path: str, get: Open) -> None:
    start = time.monotonic()
    with pytest.raises(MediaError, match=r"took more than 0\.3 s"):
        get(path, timeout=0.3)
    assert time.monotonic() - start < 3


def test_a_resolver_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    policy = MediaPolicy(allowed_hosts=frozenset({"a.org"}), timeout=0.2)
    with pytest.raises(MediaError, match=r"took more than 0\.2 s"):
        download("http://a.org/", policy)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nothing", "status 404"),
        ("short/", "ended early"),
        ("zipped/", "compressed"),
        ("junk/", "failed"),
    ],
)
def test_answers_that_are_no_success(path: str, why: str, get: Open) -> None:
    with pytest.raises(MediaError, match=why):
        get(path)


def test_redirects(get: Open, names: dict[str, list[str]]) -> None:
    assert get("count/0", max_redirects=1) == b"xxx"
    assert get("count/2", max_redirects=3) == b"xxx"
    with pytest.raises(MediaError, match="redirected more than 2 times"):
        get("count/2", max_redirects=2)
    with pytest.raises(MediaError, match="redirected more than 0 times"):
        get("count/0", max_redirects=0)


def test_a_redirect_to_a_private_address(server: http.server.HTTPServer) -> None:
    """An allowed host's name that leads inside is refused when it is looked up."""
    port = server.server_port
    open_policy = MediaPolicy(allowed_hosts=frozenset({f"localhost:{port}"}))
    with pytest.raises(MediaError, match="'localhost' has an address that is not public"):
        download(f"http://localhost:{port}/bytes/1", open_policy)
    assert Handler.asked == []


def test_redirects_are_checked(
    get: Open, server: http.server.HTTPServer, names: dict[str, list[str]]
) -> None:
    port = server.server_port
    for target, why in [
        (f"http://127.0.0.1:{port}/bytes/1", "not among those this server allows"),
        ("http://169.254.169.254/latest/meta-data", "not among"),
        ("file:///etc/passwd", "must be http"),
        ("http://[", "malformed"),
        (f"http://user@media.test:{port}/", "without a user name"),
        ("http://media.test/bytes/1", "'media.test:80' is not among"),
    ]:
        with pytest.raises(MediaError, match=why):
            get(f"redirect/{target}")
    assert {path.split("/")[1] for path, _ in Handler.asked} == {"redirect"}


def test_one_private_address_among_public_ones(names: dict[str, list[str]]) -> None:
    names["mixed.test"] = ["8.8.8.8", "10.0.0.1"]
    policy = MediaPolicy(allowed_hosts=frozenset({"mixed.test"}))
    with pytest.raises(MediaError, match="not public"):
        download("http://mixed.test/", policy)


def test_the_connection_goes_to_the_address_that_was_checked(
    get: Open, monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]
) -> None:
    """A name that changes its address between the check and the connection."""
    connected: list[Any] = []
    stock = socket.create_connection

    def create_connection(address: Any, *arguments: Any, **options: Any) -> Any:
        names["media.test"] = ["127.0.0.2"]  # what the name says from now on
        connected.append(address[0])
        return stock(address, *arguments, **options)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert get("bytes/2") == b"xx"
    assert connected == ["127.0.0.1"]


def test_the_next_address_when_one_does_not_answer(
    server: http.server.HTTPServer, names: dict[str, list[str]]
) -> None:
    port = server.server_port
    names["media.test"] = ["::1", "127.0.0.1"]
    policy = MediaPolicy(allowed_hosts=frozenset({f"media.test:{port}"}), allow_private=True)
    assert download(f"http://media.test:{port}/bytes/1", policy) == b"x"
    server.shutdown()
    server.server_close()
    names["media.test"] = ["127.0.0.1"]
    with pytest.raises(MediaError, match="no connection to 'media.test'"):
        download(f"http://media.test:{port}/bytes/1", policy)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate for media.test, made now."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-keyout", str(path), "-out", str(tmp_path / "public.pem"), "-days", "2"]
        + ["-subj", "/CN=media.test", "-addext", "subjectAltName=DNS:media.test"],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "public.pem").read_bytes())
    return path


def test_the_certificate_must_be_the_names(
    server: http.server.HTTPServer,
    names: dict[str, list[str]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS is checked against the name although an address is connected to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    port = server.server_port
    hosts = frozenset({f"media.test:{port}", f"other.test:{port}"})
    policy = MediaPolicy(allowed_hosts=hosts, allow_private=True)
    for name in ("media.test", "other.test"):
        names[name] = ["127.0.0.1"]
    with pytest.raises(MediaError, match="no connection"):  # nobody vouches for it
        download(f"https://media.test:{port}/bytes/1", policy)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    names["media.test"] = ["127.0.0.1"]
    assert download(f"https://media.test:{port}/bytes/1", policy) == b"x"
    with pytest.raises(MediaError, match="no connection"):
        download(f"https://other.test:{port}/bytes/1", policy)


def test_a_handshake_that_takes_its_time(names: dict[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        names["media.test"] = ["127.0.0.1"]
        policy = MediaPolicy(
            allowed_hosts=frozenset({f"media.test:{port}"}), allow_private=True, timeout=0.3
        )
        with pytest.raises(MediaError, match=r"took more than 0\.3 s"):
            download(f"https://media.test:{port}/", policy)


def test_proxies_of_the_environment_are_not_used(
    get: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get("bytes/1") == b"x"
