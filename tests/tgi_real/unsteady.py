"""A source of pictures that answers otherwise each time: shards must see one answer, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.tgi_real.cases import words
from tests.tgi_real.requests import Ask, Medium
from tests.tgi_real.router import Arrival, Router
from tests.tgi_real.setting import Setting


@contextmanager
def unsteady_host(answers: list[Path | None]) -> Iterator[tuple[str, list[int]]]:
    """A host that gives one answer after the other, None for a refusal.

    Yields:
        its name with its port, and a list that each call is appended to.
    """
    called: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            called.append(len(called))
            answer = answers[called[-1]] if len(called) <= len(answers) else None
            if answer is None:
                return self.send_error(429)
            self.send_response(200)
            self.send_header("Content-Length", str(answer.stat().st_size))
            self.end_headers()
            self.wfile.write(answer.read_bytes())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", called
    finally:
        server.shutdown()
        server.server_close()


def unsteady(setting: Setting, sharding: str) -> None:
    """One picture, a refusal, another picture, asked of two shards."""
    one, other = setting.files.pictures[:2]
    before, after = words(5), words(9, 2)
    with unsteady_host([one, None, other]) as (host, called):
        more = {"FASTAV_MEDIA_HOSTS": host, "FASTAV_MEDIA_PRIVATE_HOSTS": "1"}
        more["FASTAV_TGI_SHARDING"] = sharding
        with setting.server("llava", "fastav+divprune", 2, **more) as shards:
            asked = Ask((before, f"![](http://{host}/picture.png)", after), 9)
            found = [Router(shards).run([Arrival(asked)])[0] for _ in range(3)]
            healthy = shards.healthy()
    check = setting.report.check
    for answer, picture in ((found[0], one), (found[2], other)):
        alone = Ask((before, Medium("image", picture), after), 9)
        wanted = setting.alone("llava", "fastav+divprune", alone)
        seen = f"{answer.error or answer.tokens}, wanted {wanted}"
        check("both shards saw the same picture", answer.tokens == wanted, seen)
    message = found[1].error or ""
    check("a refusal is a request's error", "status 429" in message, message[-150:])
    check("each was asked for once", len(called) == 3, f"{len(called)} calls")
    check("is healthy at the end", healthy)


def _group(sharding: str) -> Callable[[Setting], None]:
    def group(setting: Setting) -> None:
        unsteady(setting, sharding)

    group.__doc__ = f"A picture that two shards would not read alike, {sharding}."
    return group


GROUPS = {f"unsteady {sharding}": _group(sharding) for sharding in ("tensor", "replicate")}
