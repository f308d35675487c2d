"""What this package refuses is an answer with status 400 and the reason, whole or streamed."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.serving.conftest import OPTIONS, Server
from tests.serving.messages import Parts, ask, picture_url, user

QUESTION = "Which colour is the circle?"
#: Settings of generate() that leave an attached model nothing to prune, and the reason.
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "static cache": (
        {"cache_implementation": "static"},
        "generate() made a StaticCache, which cannot hold layers of different lengths. Leave "
        "`cache_implementation` unset, or detach(model).",
    ),
    "no cache": (
        {"use_cache": False},
        "use_cache=False leaves an attached model nothing to prune. Leave it out, or "
        "detach(model).",
    ),
}
#: Media that are refused, and a part of the reason.
MEDIA: dict[str, tuple[dict[str, Any], str]] = {
    "no picture": (picture_url("data:image/png;base64,AAAA"), "was refused: it "),
    "no file": (picture_url("/no/such/file.png"), "no such file below the media folder"),
    "another file": (picture_url("/etc/passwd"), "no such file below the media folder"),
    "this machine": (picture_url("http://127.0.0.1/a.png"), "not public"),
    "no base64": (picture_url("data:image/png,abc"), "must be base64"),
    "another type": (picture_url("data:video/mp4;base64,AAAA"), "is no image"),
    "no sound": (
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        "The audio 'data:audio/wav;base64,AAAA' was refused",
    ),
    "no clip": (
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        "The video 'data:video/mp4;base64,AAAA' was refused",
    ),
}
STREAMS = pytest.mark.parametrize("stream", [False, True])


def post(server: Server, path: str, **body: Any) -> httpx2.Response:
    whole = {"model": server.model, **body}
    return httpx2.post(f"{server.url}/v1/{path}", json=whole, timeout=60)


def bodies(*parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A request about some media for each path of the server that takes them."""
    messages = [user(*parts, text=QUESTION)]
    return {"chat/completions": {"messages": messages}, "responses": {"input": messages}}


@STREAMS
@pytest.mark.parametrize("path", ["chat/completions", "responses", "completions"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_request_that_cannot_be_pruned(
    server: Server, parts: Parts, name: str, path: str, stream: bool
) -> None:
    settings, reason = SETTINGS[name]
    body = {**bodies(parts.picture), "completions": {"prompt": "which colour"}}[path]
    config = json.dumps({"max_new_tokens": 2, **settings})
    before = len(server.lines())
    found = post(server, path, **body, stream=stream, generation_config=config)
    assert found.status_code == 400
    assert found.json()["detail"] == found.json()["error"]["message"] == reason
    whole = post(server, path, **body, stream=stream, generation_config='{"max_new_tokens": 2}')
    assert whole.status_code == 200, "the server goes on"
    assert len(server.lines(before, 1)) == 1, "nothing was generated for the refused one"


@STREAMS
@pytest.mark.parametrize("name", MEDIA)
def test_a_medium_that_is_refused(server: Server, name: str, stream: bool) -> None:
    part, reason = MEDIA[name]
    for path, body in bodies(part).items():
        if path == "responses" and part["type"] == "input_audio":
            continue  # is read alike
        found = post(server, path, **body, stream=stream)
        assert found.status_code == 400, found.text
        assert reason in found.json()["detail"]
    assert httpx2.get(f"{server.url}/health").status_code == 200


def test_media_among_the_arguments_of_the_template(server: Server, parts: Parts) -> None:
    for path, body in bodies(parts.picture).items():
        if path == "responses":
            continue  # its body has no such field
        found = post(server, path, **body, chat_template_kwargs={"images": "http://127.0.0.1/"})
        assert found.status_code == 400
        assert "`images` is no argument of a chat" in found.json()["detail"]


def test_an_error_of_another_kind_stays_the_servers_own(server: Server) -> None:
    """Of a stream it is one event: transformers streams no beams."""
    settings = json.dumps({"max_new_tokens": 2, "num_beams": 2})
    body = bodies()["chat/completions"]
    found = post(server, "chat/completions", **body, stream=True, generation_config=settings)
    assert found.status_code == 200
    assert '{"error": ' in found.text


class _Slow(http.server.BaseHTTPRequestHandler):
    """Answers with a picture once it may."""

    picture = b""
    asked = threading.Event()
    ready = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.ready.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)

    def log_message(self, *args: Any) -> None:
        """No log."""


@pytest.fixture
def slow_host(parts: Parts) -> Iterator[str]:
    _Slow.picture = parts.picture_file.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_port}/picture.png"
        host.shutdown()


def test_a_slow_host_holds_up_its_own_request_alone(
    serve: Callable[..., Server], parts: Parts, slow_host: str
) -> None:
    """And addresses that are not public are read where the operator allows it."""
    environment = {"FASTAV_MEDIA_PRIVATE_HOSTS": "1", "FASTAV_MEDIA_TIMEOUT": "60"}
    server = serve(options=OPTIONS, environment=environment).wait()
    inline = [user(parts.picture, text=QUESTION)]
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            ask, client, server.model, [user(picture_url(slow_host), text=QUESTION)]
        )
        assert _Slow.asked.wait(30)
        begin = time.monotonic()
        expected = ask(client, server.model, inline)
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert not waiting.done() and time.monotonic() - begin < 30
        _Slow.ready.set()
        assert waiting.result() == expected
