"""A registry of the tests' own, which does whatever a case wants."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = BaseHTTPRequestHandler
Handler = Callable[[Request], None]
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class BadServer:
    """Answers with ``handlers``, by path without query, else with 404. ``seen`` is what was asked:
    path with query, and the Authorization header or an empty text."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.seen: list[tuple[str, str]] = []
        self.closing = threading.Event()
        outer = self

        class Server(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization", "")))
                handler = outer.handlers.get(self.path.partition("?")[0], status(404))
                with contextlib.suppress(ConnectionError):
                    handler(self)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- what it has

    def serve_module(self, module: bytes, **changes: Any) -> dict[str, Any]:
        """A sound image ``lab/x:1``; ``changes`` are made to its layer's descriptor."""
        layer = {"mediaType": "application/wasm", "digest": digest(module), "size": len(module)}
        document = manifest([layer | changes])
        self.serve_manifest(document)
        self.handlers[f"/v2/lab/x/blobs/{digest(module)}"] = answer(module)
        return document

    def serve_manifest(
        self, document: Any, content_type: str = MANIFEST_TYPE, version: str = "1"
    ) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        for name in {version, digest(data)}:
            self.handlers[f"/v2/lab/x/manifests/{name}"] = answer(
                data, {"Content-Type": content_type}
            )
        return digest(data)


@contextlib.contextmanager
def bad_server() -> Iterator[BadServer]:
    server = BadServer()
    try:
        yield server
    finally:
        server.close()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest(layers: list[Any], **changes: Any) -> dict[str, Any]:
    config = {
        "mediaType": "application/vnd.wasm.config.v0+json",
        "digest": digest(b"{}"),
        "size": 2,
    }
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    } | changes


def answer(data: bytes, headers: dict[str, str] | None = None, *, code: int = 200) -> Handler:
    """``headers`` may hold another Content-Length than is true; then the connection ends."""

    def handle(request: Request) -> None:
        length = request.headers.get("Content-Length")
        if length:
            request.rfile.read(int(length))
        request.send_response(code)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)
        request.close_connection = True

    return handle


def status(code: int, **headers: str) -> Handler:
    return answer(
        b"", {name.replace("_", "-"): value for name, value in headers.items()}, code=code
    )


def in_turn(*handlers: Handler) -> Handler:
    """The first time the first, …; the last one ever after."""
    left = list(handlers)

    def handle(request: Request) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request)

    return handle


def endless(chunk: bytes, closing: threading.Event, pause_s: float = 0.0) -> Handler:
    """No length, and no end."""

    def handle(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", MANIFEST_TYPE)
        request.end_headers()
        request.close_connection = True
        while not closing.wait(pause_s):
            request.wfile.write(chunk)

    return handle


def only_with(authorization: str, challenge: str, handler: Handler) -> Handler:
    """``handler`` for those who show it, the challenge for others."""

    def handle(request: Request) -> None:
        if request.headers.get("Authorization") == authorization:
            handler(request)
        else:
            status(401, WWW_Authenticate=challenge)(request)

    return handle
