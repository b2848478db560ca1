# SPDX-License-Identifier: GPL-3.0-or-later
"""A real web server on this machine, with the faults that downloads meet."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What one address answers. ``cut``: bytes after which a connection breaks; ``headers``: more of them."""

    body: bytes = b""
    status: int = 200
    ranges: bool = True
    cut: int = 0
    pause: float = 0.0  # seconds between kilobytes
    etag: str = ""
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


class WebServer:
    """Serves ``pages`` by path; ``asked`` records method, path and range of every request."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.port = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that hang up are part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path.split("?")[0], request.headers.get("Range", "")
        self.asked.append((request.command, path, wanted))
        page = self.pages.get(path, Page(b"not here", 404))
        body, status, headers = page.body, page.status, {"Content-Type": page.kind, **page.headers}
        if page.etag:
            headers["ETag"] = page.etag
        if wanted and page.ranges and status == 200:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(body):
                status, body, headers["Content-Range"] = 416, b"", f"bytes */{len(body)}"
            else:
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if page.cut and len(body) > page.cut:
            request.wfile.write(body[: page.cut])
            request.close_connection = True
            return
        for start in range(0, len(body), 1024 if page.pause else len(body)):
            request.wfile.write(body[start : start + 1024] if page.pause else body)
            time.sleep(page.pause)


def serve_repository(server: WebServer, name: str, files: dict[str, bytes], commit: str) -> Callable[[str], Page]:
    """Answers as the Hugging Face hub does for one repository with one commit; returns the page of a file."""
    siblings: list[dict[str, Any]] = []
    for path, data in files.items():
        sha256, oid = hashlib.sha256(data).hexdigest(), hashlib.sha1(data).hexdigest()
        siblings.append({"rfilename": path, "size": len(data), "blobId": oid})
        if path.endswith((".safetensors", ".bin")):
            siblings[-1]["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
        server.pages[f"/{name}/resolve/{commit}/{path}"] = Page(data, etag=f'"{oid}"')
    facts = json.dumps({"id": name, "sha": commit, "siblings": siblings, "private": False})
    for path in ("", "/revision/main", f"/revision/{commit}"):
        server.pages[f"/api/models/{name}{path}"] = Page(facts.encode(), kind="application/json")
    return lambda path: server.pages[f"/{name}/resolve/{commit}/{path}"]
