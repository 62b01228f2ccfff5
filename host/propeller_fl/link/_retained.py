"""Sees to it that a node takes up what is retained, whichever other node dies.

Each node of nats-server has an index of what is retained, which it keeps up to date by a consumer
of the stream of retained messages. The consumer that the server makes itself has no copy and lives
at any node: once that one is dead, the node it is for takes up nothing retained any more, and says
that it is well. So each node is given a consumer that lives at that node itself, which dies with
nobody else, and the server's own is taken away.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Any

from ._asking import ask
from ._jetstream import Login, Refusal, connected, request

_log = logging.getLogger(__name__)

_STREAM = "$MQTT_rmsgs"
_DELETED = "$MQTT.JSA.*.RD"  # whose subscriber, at each server, subscribes to what is retained too
_DELIVERED = "$MQTT.sub."  # where: followed by letters of its own
_SERVERS_OWN = f"{_STREAM}_"  # how its consumers' names begin
_NO_CONSUMER = 10014
_PATIENCE_S = 5.0
_STUCK_S = 30.0  # on a busy machine
_TRIES = 20  # a consumer lives at any one of three
_LEFTOVER_NS = 60 * 1_000_000_000  # after which one of a server that has ended is forgotten
_COPIES = 3  # where the node has no copy of the stream, as two of five have not
_ALL_SUBSCRIPTIONS = 10_000_000


class RetainedFeed:
    """What brings to ``node`` that which is retained, as long as its nats-server runs.

    ``port``  for the server's own protocol, and the ``login`` there; ``http_port`` tells of it
    """

    def __init__(self, node: str, port: int, http_port: int, login: Login) -> None:
        self._node = node
        self._port = port
        self._http_port = http_port
        self._login = login
        self._name = f"propeller-{node}"
        self._subject = ""
        self._made = self._took_over = False
        self._seen_at = -1  # the last sequence that was delivered when it was looked at
        self._well_s = 0.0  # when it had delivered all there was, or some more

    def keep(self) -> bool:
        """Look once, and make it anew where it is not there, or delivers nothing of what waits.

        Whether it had delivered all there was. False too while the nodes cannot agree on anything.
        """
        try:
            with connected(self._port, self._login, _PATIENCE_S) as sock:
                found = self._find(sock, self._name)
                fault = self._fault(found)
                if not fault:
                    self._take_over(sock)
                    return not found["num_pending"]
                if self._made:
                    _log.warning(
                        "node %s takes up nothing that is retained: %s. It reads all of it again",
                        self._node,
                        fault,
                    )
                self._make(sock)
        except (OSError, ValueError, KeyError) as error:
            _log.debug("what brings retained messages to node %s: %s", self._node, error)
        return False

    def _find(self, sock: socket.socket, name: str) -> dict[str, Any]:
        """What JetStream says of a consumer; empty where it is not there."""
        try:
            return request(sock, f"$JS.API.CONSUMER.INFO.{_STREAM}.{name}", {})
        except Refusal as refusal:
            if refusal.code == _NO_CONSUMER:
                return {}
            raise

    def _fault(self, found: dict[str, Any]) -> str:
        """Why it must be made anew."""
        if not found:
            return "its consumer is not there"
        if found["config"]["deliver_subject"] != self._subject:
            return "its consumer is of another time"
        now_s, at = time.monotonic(), found["delivered"]["stream_seq"]
        if at != self._seen_at or (found.get("push_bound") and not found["num_pending"]):
            self._seen_at, self._well_s = at, now_s
        elif now_s - self._well_s > _STUCK_S:
            return f"its consumer has delivered nothing for {_STUCK_S:g} s"
        return ""

    def _make(self, sock: socket.socket) -> None:
        """Raises OSError or ValueError where that does not succeed at once."""
        self._subject = self._find_subject()
        copies = 1 if self._node in _holders(sock) else _COPIES
        config = {
            "name": self._name,
            "deliver_subject": f"{_DELIVERED}{self._name}",  # where nobody is, so far
            "deliver_policy": "all",
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": _LEFTOVER_NS,
            "num_replicas": copies,
            "mem_storage": True,
        }
        for _ in range(_TRIES):
            self._delete(sock, self._name)
            made = self._create(sock, config)
            if copies > 1 or made["cluster"]["leader"] == self._node:
                break
        else:
            raise ValueError(f"{_TRIES} consumers in a row were made at other nodes")
        self._create(sock, config | {"deliver_subject": self._subject})
        self._made, self._took_over = True, False
        self._seen_at, self._well_s = -1, time.monotonic()

    def _take_over(self, sock: socket.socket) -> None:
        """Take the server's own consumer away, once: what comes twice may come in another order."""
        if self._took_over:
            return
        for name in request(sock, f"$JS.API.CONSUMER.NAMES.{_STREAM}", {})["consumers"] or []:
            if name.startswith(_SERVERS_OWN):
                with contextlib.suppress(Refusal):  # one of a node that is dead
                    found = self._find(sock, name)
                    if found and found["config"]["deliver_subject"] == self._subject:
                        self._delete(sock, name)
        self._took_over = True

    def _find_subject(self) -> str:
        """Where the server waits for what is retained; it does since its first session."""
        said = ask(self._http_port, f"/subsz?subs=1&limit={_ALL_SUBSCRIPTIONS}")
        found = said.get("subscriptions_list") or []
        own = {one["cid"] for one in found if one["subject"] == _DELETED}
        for one in found:
            if one["cid"] in own and one["subject"].startswith(_DELIVERED):
                return str(one["subject"])
        raise ValueError("the server waits for nothing retained yet")

    def _create(self, sock: socket.socket, config: dict[str, Any]) -> dict[str, Any]:
        """Or change what may be changed."""
        subject = f"$JS.API.CONSUMER.CREATE.{_STREAM}.{self._name}"
        return request(sock, subject, {"stream_name": _STREAM, "config": config})

    def _delete(self, sock: socket.socket, name: str) -> None:
        with contextlib.suppress(Refusal):  # it is not there, or cannot be reached
            request(sock, f"$JS.API.CONSUMER.DELETE.{_STREAM}.{name}", {})


def _holders(sock: socket.socket) -> set[str]:
    """The nodes that have a copy of the stream."""
    cluster = request(sock, f"$JS.API.STREAM.INFO.{_STREAM}", {})["cluster"]
    return {cluster["leader"], *(copy["name"] for copy in cluster.get("replicas", []))}
