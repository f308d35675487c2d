"""A hub on this machine: a server with the answers that huggingface_hub asks for; its cache."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub.file_download import repo_folder_name

#: Commit of every repository here.
COMMIT = "0" * 39 + "1"
#: Where nothing answers.
NOWHERE = "http://127.0.0.1:9"


def cached(cache: Path, repository: str, files: dict[str, bytes | Path]) -> Path:
    """Put files of a repository into a cache, as huggingface_hub lays it out; the snapshot."""
    storage = cache / repo_folder_name(repo_id=repository, repo_type="model")
    snapshot = storage / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (storage / "refs").mkdir(exist_ok=True)
    (storage / "refs" / "main").write_text(COMMIT)
    (storage / "blobs").mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.read_bytes() if isinstance(content, Path) else content
        blob = storage / "blobs" / hashlib.sha1(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


@contextmanager
def serving(repository: str, files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A hub with one repository: its address, and the files that were asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            if path.startswith(f"/api/models/{repository}"):
                return self.send(200, json.dumps(self.facts(path)).encode(), body)
            name = path.partition("/resolve/")[2].partition("/")[2]
            if not path.startswith(f"/{repository}/resolve/") or name not in files:
                missing = "EntryNotFound" if repository in path else "RepoNotFound"
                return self.send(404, b"", body, {"X-Error-Code": missing})
            if body:
                asked.append(name)
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self.send(200, files[name], body, {"ETag": etag, "X-Repo-Commit": COMMIT})

        def facts(self, path: str) -> object:
            if "/tree/" in path:
                return [
                    {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for n, d in files.items()
                ]
            siblings = [{"rfilename": n, "size": len(d)} for n, d in files.items()]
            return {"id": repository, "sha": COMMIT, "siblings": siblings}

        def send(
            self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
