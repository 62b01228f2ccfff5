"""A broker that does what a test says, packet by packet: for what real ones rarely do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from propeller_fl.link import BrokerAddress

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE = 1, 2, 3, 4, 8, 9, 10
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """Of SUBSCRIBE and PUBACK."""
        return int.from_bytes(self.body[:2], "big")

    @property
    def publish(self) -> tuple[str, int, bytes]:
        """Topic, packet id and payload of a QoS 1 PUBLISH."""
        end = 2 + int.from_bytes(self.body[:2], "big")
        packet_id = int.from_bytes(self.body[end : end + 2], "big")
        return self.body[2:end].decode(), packet_id, self.body[end + 2 :]

    @property
    def duplicate(self) -> bool:
        return bool(self.flags & 8)


class Peer:
    """One connection of a client."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def receive(self, kind: int) -> Packet:
        """The next packet, which must be of that kind."""
        first = self._exactly(1)[0]
        packet = Packet(first >> 4, first & 15, self._exactly(self._length()))
        assert packet.kind == kind, f"expected a packet of kind {kind}, got {packet}"
        return packet

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        assert len(body) < 128
        self._sock.sendall(bytes([kind << 4 | flags, len(body)]) + body)

    def send_raw(self, data: bytes) -> None:
        self._sock.sendall(data)

    def accept_session(self, *, present: bool = False) -> None:
        self.receive(CONNECT)
        self.send(CONNACK, bytes([present, 0]))

    def publish(
        self, topic: str, packet_id: int, payload: bytes, *, duplicate: bool = False
    ) -> None:
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + packet_id.to_bytes(2, "big") + payload
        self.send(PUBLISH, body, flags=2 | (8 if duplicate else 0))

    def hung_up(self) -> bool:
        """Wait for the client's end of the connection."""
        return self._sock.recv(1) == b""

    def hang_up(self) -> None:
        self._sock.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._sock.recv(count - len(data))
            assert piece, "the client hung up"
            data += piece
        return data

    def _length(self) -> int:
        length, shift = 0, 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return length


class ScriptedBroker:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._peers: list[Peer] = []

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self._listener.getsockname()[1])

    def accept(self) -> Peer:
        """The next connection."""
        sock, _ = self._listener.accept()
        sock.settimeout(_PATIENCE_S)
        self._peers.append(Peer(sock))
        return self._peers[-1]

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.hang_up()


@contextlib.contextmanager
def scripted_broker() -> Iterator[ScriptedBroker]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(_PATIENCE_S)
    broker = ScriptedBroker(listener)
    try:
        yield broker
    finally:
        broker.close()
