"""A paho client for many packets: what is usual, and often, goes past paho's account of them.

paho asks the socket for the first bytes of each packet one by one, each a system call, takes a
PUBLISH apart in a dozen steps, and sends every packet by itself. Where there are many that is most
of what they cost. So this one reads ahead, and takes apart what is whole in its buffer: messages at
QoS 0 and 1 without properties, and acknowledgements that say nothing but yes. All else paho reads,
from a message that is cut in two to one that is malformed. Many small packets are handed to paho as
one, and the kernel is told when more are to come.

``_sock_recv``, ``_sock_send``, ``_packet_read``, ``_packet_queue`` and what they touch are paho's
own and not for others: it is pinned, and ``tests/link`` would show if they went.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_FEWEST_BYTES: Final = 16 * 1024
_MOST_BYTES: Final = 256 * 1024  # read at once, where so much comes
# Linux: a packet waits for the next, and they share a segment. All go out with the last ``send``,
# which lets go of the GIL. To take a TCP_CORK out sends just as much and does not, so that modules
# wait meanwhile; it is for TLS alone, whose ``send`` has no such flag.
_MORE: Final = getattr(socket, "MSG_MORE", None)
_PUBLISH: Final = 0x30  # first bytes of packets
_PUBACK_HEAD: Final = b"\x40\x02"  # with nothing but a packet id
_YES: Final = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES: Final = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class Received:
    """A message as ``paho.MQTTMessage`` has it, which takes ten times as long to make."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retain: bool
    dup: bool
    properties: None = None


class Client(paho.Client):
    """``on_received`` gets the messages that are read here; paho's ``on_message`` the others."""

    def __init__(self, *args: Any, on_received: Callable[[Received], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_received = on_received
        self._ahead = b""
        self._at = 0  # how much of it has been read
        self._ahead_of: object = None  # the socket it came from
        self._ahead_size = _FEWEST_BYTES
        self._may_read = True

    @property
    def has_more(self) -> bool:
        """Whether there is more to read now, in this process or, likely, in the kernel."""
        return self._may_read or self._ahead_bytes > 0

    def woken(self) -> None:
        """The socket can be read."""
        self._may_read = True

    def queue_packets(self, packets: bytes) -> None:
        """Send these whole packets, of which none is answered, after all that is queued."""
        # As a PUBACK: paho does nothing more about one once it is sent.
        self._packet_queue(paho.PUBACK, packets, 0, 0)

    def _sock_send(self, buf: bytes | bytearray) -> int:
        """For paho."""
        sock = self._sock
        if _MORE is not None and self.want_write() and type(sock) is socket.socket:
            return sock.send(buf, _MORE)
        return super()._sock_send(buf)

    # --- reading

    @property
    def _ahead_bytes(self) -> int:
        return len(self._ahead) - self._at if self._ahead_of is self._sock else 0

    def _sock_recv(self, bufsize: int) -> bytes:
        """For paho."""
        if not self._ahead_bytes:
            if bufsize >= self._ahead_size:
                return self._recv(bufsize)
            self._read_ahead()
        found = self._ahead[self._at : self._at + bufsize]
        self._at += len(found)
        return found

    def _read_ahead(self) -> None:
        size = self._ahead_size
        self._ahead, self._at = self._recv(size), 0
        self._ahead_of = self._sock
        if len(self._ahead) == size:
            self._ahead_size = min(2 * size, _MOST_BYTES)
        elif len(self._ahead) < size // 4:
            self._ahead_size = _FEWEST_BYTES

    def _recv(self, size: int) -> bytes:
        """Where less came than was asked for nothing is left, so that need not be asked for."""
        if not self._may_read:
            raise BlockingIOError
        sock = self._sock
        try:
            found = super()._sock_recv(size)
        except BlockingIOError:
            self._may_read = False
            raise
        inside = sock.pending() if isinstance(sock, ssl.SSLSocket) else 0
        self._may_read = len(found) == size or inside > 0
        self._last_bytes_received = time.monotonic()  # for the keepalive
        return found

    def _packet_read(self) -> MQTTErrorCode:
        """For paho: one packet."""
        if not self._in_packet["command"]:  # paho has not begun with one
            if not self._ahead_bytes:
                try:
                    self._read_ahead()
                except BlockingIOError:
                    return MQTTErrorCode.MQTT_ERR_AGAIN
                except OSError:
                    return MQTTErrorCode.MQTT_ERR_CONN_LOST
                if not self._ahead:
                    return MQTTErrorCode.MQTT_ERR_CONN_LOST
            if self._quick_puback() or self._quick_publish():
                return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._packet_read()

    def _quick_puback(self) -> bool:
        """Take an acknowledgement from what was read ahead, or leave it where it is."""
        at = self._at
        if len(self._ahead) < at + 4 or not self._ahead.startswith(_PUBACK_HEAD, at):
            return False
        self._at = at + 4
        packet_id = int.from_bytes(self._ahead[at + 2 : at + 4], "big")
        with self._out_message_mutex:
            if packet_id in self._out_messages:
                self._do_on_publish(packet_id, _YES, _NO_PROPERTIES)
        return True

    def _quick_publish(self) -> bool:
        """Take a message from what was read ahead, or leave it where it is: one that is not whole
        or has anything out of the ordinary."""
        data, at = self._ahead, self._at
        first = data[at]
        if first & 0xF4 != _PUBLISH:  # another packet, or QoS 2
            return False
        with_id = first & 2
        size = shift = 0
        for byte in data[at + 1 : at + 5]:
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            return False
        begin = at + 1 + shift // 7
        stop = begin + size
        name = begin + 2
        id_at = name + int.from_bytes(data[begin:name], "big")
        body = id_at + with_id
        if self._protocol == paho.MQTTv5:
            body += 1
        if stop > len(data) or body > stop or id_at == name:
            return False
        if self._protocol == paho.MQTTv5 and data[body - 1]:  # there are properties
            return False
        try:
            topic = data[name:id_at].decode()
        except UnicodeDecodeError:
            return False
        self._at = stop
        packet_id = int.from_bytes(data[id_at : id_at + 2], "big") if with_id else 0
        self._on_received(
            Received(
                topic, data[body:stop], packet_id, with_id >> 1, bool(first & 1), bool(first & 8)
            )
        )
        return True
