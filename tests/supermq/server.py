"""SuperMQ's users, domains, channels and clients services as one small HTTP server.

It holds every request against what SuperMQ's OpenAPI files say (paths, methods, header fields, the
fields of bodies) and answers with their codes. ``faults`` is what was not as they say: a test ends
with none.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_ID = "[0-9a-f-]{36}"
# field: whether it must be there
_BODIES: dict[str, dict[str, bool]] = {
    "token": {"username": True, "password": True},
    "domain": {"name": True, "route": True, "tags": False, "metadata": False},
    "channel": {"name": True, "route": False, "parent_id": False, "metadata": False,
                "status": False},
    "client": {"name": False, "credentials": True, "tags": False, "metadata": False,
               "private_metadata": False, "status": False},
    "connect": {"channel_ids": True, "client_ids": True, "types": True},
}  # fmt: skip


class FakeSuperMq:
    """A context manager; ``url`` is good for all four services."""

    def __init__(self, username: str = "admin", password: str = "a-long-secret") -> None:
        self.username, self.password = username, password
        self.faults: list[str] = []
        self.domains: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.clients: list[dict[str, Any]] = []
        self.connections: set[tuple[str, str, str]] = set()  # channel, client, type
        self.shows_secrets = True
        self.not_up_for = 0  # requests that find a proxy and no service
        self.answers: dict[str, tuple[int, bytes]] = {}  # path: instead of what it would say
        self._tokens: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeSuperMq:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def state(self) -> str:
        """All it holds."""
        everything = [self.domains, self.channels, self.clients, sorted(self.connections)]
        return json.dumps(everything)

    def answer(self, method: str, target: str, headers: Any, data: bytes) -> tuple[int, Any]:
        if self.not_up_for:
            self.not_up_for -= 1
            return 502, {}
        path = urlsplit(target).path
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        if path in self.answers:
            return self.answers[path]
        body: dict[str, Any] = {}
        if method == "POST":
            if headers.get("Content-Type") != "application/json":
                self.faults.append(f"{path}: Content-Type {headers.get('Content-Type')}")
                return 415, {"message": "invalid content type"}
            body = json.loads(data)
        if (method, path) == ("POST", "/users/tokens/issue"):
            return self._issue(body)
        kind, token = (headers.get("Authorization") or " ").split(" ", 1)
        if kind != "Bearer" or token not in self._tokens:
            return 401, {"message": "failed to perform authentication over the entity"}
        if path == "/domains":
            return self._domains(method, query, body)
        found = re.fullmatch(f"/({_ID})/(channels|clients)(/connect)?", path)
        if not found:
            self.faults.append(f"{method} {path}: there is no such route")
            return 404, {}
        domain_id, service, connect = found.groups()
        if all(domain["id"] != domain_id for domain in self.domains):
            return 403, {"message": "failed to perform authorization over the entity"}
        if connect and service == "channels":
            return self._connect(body)
        items = self.channels if service == "channels" else self.clients
        if method == "GET":
            return self._page(service, items, query, domain_id)
        self._fields(service.removesuffix("s"), body)
        item = {"id": str(uuid.uuid4()), "domain_id": domain_id, "status": "enabled", **body}
        if service == "clients":
            item["credentials"] = {"secret": str(uuid.uuid4()), **body["credentials"]}
        items.append(item)
        return 201, self._shown(item)

    def _issue(self, body: dict[str, Any]) -> tuple[int, Any]:
        self._fields("token", body)
        if (body["username"], body["password"]) != (self.username, self.password):
            return 401, {"message": "failed to perform authentication over the entity"}
        token = uuid.uuid4().hex
        self._tokens.add(token)
        return 201, {"access_token": token, "refresh_token": "r", "access_type": "Bearer"}

    def _domains(self, method: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        if method == "GET":
            return self._page("domains", self.domains, query, "")
        self._fields("domain", body)
        if any(domain["route"] == body["route"] for domain in self.domains):
            return 409, {"message": "entity already exists"}
        domain = {"id": str(uuid.uuid4()), "status": "enabled", **body}
        self.domains.append(domain)
        return 201, domain

    def _connect(self, body: dict[str, Any]) -> tuple[int, Any]:
        self._fields("connect", body)
        if not set(body["types"]) <= {"publish", "subscribe"}:
            return 400, {"message": "invalid connection type"}
        wanted = {
            (channel, client, kind)
            for channel in body["channel_ids"]
            for client in body["client_ids"]
            for kind in body["types"]
        }
        if wanted & self.connections:
            return 409, {"message": "entity already exists"}
        self.connections |= wanted
        return 201, None

    def _page(
        self, key: str, items: list[dict[str, Any]], query: dict[str, str], domain_id: str
    ) -> tuple[int, Any]:
        unknown = set(query) - {"name", "offset", "limit"}
        offset, limit = int(query.get("offset", "0")), int(query.get("limit", "10"))
        if unknown or not 1 <= limit <= 100:
            self.faults.append(f"{key}: query {query}")
            return 400, {"message": "malformed query parameters"}
        found = [
            item
            for item in items
            if query.get("name", "").lower() in item["name"].lower()
            and domain_id in ("", item.get("domain_id"))
            and item["status"] == "enabled"
        ]
        page = [self._shown(item) for item in found[offset : offset + limit]]
        return 200, {"total": len(found), "offset": offset, "limit": limit, key: page}

    def _shown(self, item: dict[str, Any]) -> dict[str, Any]:
        if "credentials" in item and not self.shows_secrets:
            return item | {"credentials": {}}
        return item

    def _fields(self, kind: str, body: dict[str, Any]) -> None:
        known = _BODIES[kind]
        for name in set(body) - set(known):
            self.faults.append(f"{kind}: there is no field {name}")
        for name, needed in known.items():
            if needed and name not in body:
                self.faults.append(f"{kind}: {name} is missing")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._do()

            def do_POST(self) -> None:
                self._do()

            def _do(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    status, document = fake.answer(self.command, self.path, self.headers, data)
                sent = document if isinstance(document, bytes) else json.dumps(document).encode()
                sent = b"" if document is None else sent
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
