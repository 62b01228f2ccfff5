"""One paho client on the link loop: a connection at a time, and what happens on it.

Where the broker is a cluster, each attempt after one that failed, or after a session that ended,
goes to the next of its nodes.

paho keeps the protocol and the packets in flight; this file gives it a socket's readiness and the
time, on the loop's thread. Only ``Client.reconnect``, which blocks, runs on a connector thread, and
nothing else touches the client while it does.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import functools
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..errors import LinkError
from ._address import BrokerAddress, TlsOptions
from ._loop import LinkLoop, Timer
from ._options import Will

_log = logging.getLogger(__name__)

_QOS = 1
_PUBLISH = 0x30  # first bytes of packets
_PUBACK = 0x40
_READ_AHEAD_BYTES = 64 * 1024
# Linux: a packet waits for the next, and they share a segment. All go out with the last ``send``,
# which lets go of the GIL. To take a TCP_CORK out sends just as much and does not, so that modules
# wait meanwhile; it is for TLS alone, whose ``send`` has no such flag.
_MORE = getattr(socket, "MSG_MORE", None)
_CORK = getattr(socket, "TCP_CORK", None)
_READS_A_TURN = 64  # packets of one connection before the other connections get their turn
_Properties: Any = Properties  # has no types
_FOR_EVER_S = 0xFFFFFFFF  # how long the broker keeps a session (MQTT 5)
_ANY_NUMBER = 0xFFFF
_UNKNOWN_VERSION = "Unsupported protocol version"
_PASSING_REFUSALS = ("Server unavailable", "Server busy")  # the others stay until someone acts

# One context for all links with the same options: loading the authorities takes milliseconds.
_tls_context = functools.lru_cache(maxsize=16)(TlsOptions.context)


class Refusal(LinkError):
    """Trying again will not help until somebody mends the address, the login or the broker."""


class Events(Protocol):
    """What a connection tells its owner, always on the loop's thread."""

    def on_established(self, session_present: bool) -> None:
        """The broker accepted the session. Packets in flight follow whatever is sent in here."""

    def on_closed(self, error: LinkError | None) -> None:
        """The attempt failed or the session ended; None after our own goodbye."""

    def on_message(self, message: paho.MQTTMessage) -> None: ...

    def on_published(self, packet_id: int) -> None: ...

    def on_subscribed(self, packet_id: int, failures: list[str]) -> None:
        """One entry a filter, in the order sent: why it was refused, or empty."""

    def on_unsubscribed(self, packet_id: int) -> None: ...


class _Client(paho.Client):
    """A paho client that reads ahead, sends many small packets as one, and tells the kernel when it
    is about to send more.

    paho asks the socket for the first bytes of each packet one by one, each a system call, and
    sends each packet by one: they cost more than all else where there are many. ``_sock_recv``,
    ``_sock_send`` and ``_packet_queue`` are paho's own and not for others: it is pinned, and
    ``tests/link`` would show if they went.
    """

    _ahead = b""
    _at = 0  # how much of it paho has had
    _ahead_of: object = None  # the socket it came from

    @property
    def ahead_bytes(self) -> int:
        """Read from the socket, and not by paho yet."""
        return len(self._ahead) - self._at if self._ahead_of is self._sock else 0

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.ahead_bytes:
            if bufsize >= _READ_AHEAD_BYTES:
                return super()._sock_recv(bufsize)
            self._ahead, self._at = super()._sock_recv(_READ_AHEAD_BYTES), 0
            self._ahead_of = self._sock
        found = self._ahead[self._at : self._at + bufsize]
        self._at += len(found)
        return found

    def queue_packets(self, packets: bytes) -> None:
        """Send these whole packets, of which none is answered, after all that is queued."""
        # As a PUBACK: paho does nothing more about one once it is sent.
        self._packet_queue(paho.PUBACK, packets, 0, 0)

    def _sock_send(self, buf: bytes | bytearray) -> int:
        sock = self._sock
        if _MORE is not None and self.want_write() and type(sock) is socket.socket:
            return sock.send(buf, _MORE)
        return super()._sock_send(buf)


class _Phase(enum.Enum):
    CLOSED = enum.auto()
    CONNECTING = enum.auto()  # on a connector thread, which alone may touch the client
    ABANDONED = enum.auto()  # the same, but nobody wants the result any more
    OPEN = enum.auto()  # CONNECT is on its way, CONNACK is not here yet
    ESTABLISHED = enum.auto()


class Connection:
    """All methods are for the loop's thread."""

    def __init__(
        self,
        loop: LinkLoop,
        address: BrokerAddress,
        client_id: str,
        *,
        will: Will | None,
        clean_session: bool,
        keepalive_s: int,
        connect_timeout_s: float,
        events: Events,
        mqtt5: bool = False,
    ) -> None:
        self._loop = loop
        self._places = address.places
        self._place = self._last_place = address.home_of(client_id)
        self.moved = False  # whether the session was at another place before
        self._client_id = client_id
        self._keepalive_s = keepalive_s
        self._connect_timeout_s = connect_timeout_s
        self._events = events
        self._phase = _Phase.CLOSED
        self._sock: socket.socket | None = None
        self._refusal: LinkError | None = None
        self._flush_due = False
        self._progress = False
        self._deadline: Timer | None = None
        self._tick: Timer | None = None
        self.mqtt5 = mqtt5  # what is spoken, or asked for next
        self._was_up = False
        self.receive_maximum = _ANY_NUMBER  # of messages under way, by the broker's word
        self._falls_back = False
        self._clean_session = clean_session
        self._make = functools.partial(self._make_client, will, clean_session)
        self._client = self._make()

    @property
    def places(self) -> int:
        """How many there are to be tried, one after the other."""
        return len(self._places)

    @property
    def _address(self) -> BrokerAddress:
        """The place of this attempt."""
        return self._places[self._place]

    @property
    def established(self) -> bool:
        return self._phase is _Phase.ESTABLISHED

    @property
    def closed(self) -> bool:
        return self._phase is _Phase.CLOSED

    def connect(self) -> None:
        """Start an attempt; ``on_established`` or ``on_closed`` tells how it went."""
        self._phase = _Phase.CONNECTING
        self._refusal = None
        self._aim(self._client)
        self._loop.run_blocking(self._open, self._connected)

    def disconnect(self) -> None:
        """Say goodbye after what is queued already; ``on_closed(None)`` follows."""
        self._guarded(self._client.disconnect)

    def drop(self, error: LinkError) -> None:
        """Hang up without goodbye; ``on_closed(error)`` is called before this returns."""
        self._falls_back = False
        if self._phase is _Phase.CONNECTING:
            self._phase = _Phase.ABANDONED
            self._events.on_closed(error)
            return
        if self._sock is not None:
            sock = self._sock
            self._forget_socket()
            sock.close()
        self._ended(error)

    def publish(
        self, topic: str, payload: bytes, retain: bool, properties: Mapping[str, str]
    ) -> int | None:
        """Hand a message to paho, which sends it until it is acknowledged; MQTT 3.1.1 has no
        place for ``properties``, and leaves them out.

        Returns its packet id, or None while that id is still taken by an older packet.
        """
        beside = None
        if properties and self.mqtt5:
            beside = _Properties(PacketTypes.PUBLISH)
            beside.UserProperty = list(properties.items())
        info = self._client.publish(topic, payload, qos=_QOS, retain=retain, properties=beside)
        return None if info.rc is MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info.mid

    def subscribe(self, topic_filters: list[tuple[str, int]]) -> int:
        """Each with its QoS. Returns the packet id that ``on_subscribed`` will name."""
        _, packet_id = self._client.subscribe(topic_filters)
        assert packet_id is not None  # only when there is no socket, and we are established
        return packet_id

    def unsubscribe(self, topic_filters: list[str]) -> int:
        _, packet_id = self._client.unsubscribe(topic_filters)
        assert packet_id is not None
        return packet_id

    def say(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send each once, at QoS 0; nothing without a connection."""
        if self.established:
            packets = (_publish_packet(*message, mqtt5=self.mqtt5) for message in messages)
            self._client.queue_packets(b"".join(packets))

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK for each."""
        if self.established:
            packets = (struct.pack("!BBH", _PUBACK, 2, packet_id) for packet_id in packet_ids)
            self._client.queue_packets(b"".join(packets))

    def on_readable(self) -> None:
        """For the loop."""
        for _ in range(_READS_A_TURN):
            if self._sock is None:
                return
            self._progress = False
            self._guarded(self._client.loop_read)
            # More while it comes. Bytes that wait in here do not make a socket readable.
            if not (self._progress or self._has_read_ahead()):
                return
        if self._has_read_ahead():
            self._loop.call_soon(self.on_readable)

    def on_writable(self) -> None:
        """For the loop."""
        self._flush()

    def _make_client(self, will: Will | None, clean_session: bool) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self.mqtt5 else clean_session,
            protocol=paho.MQTTv5 if self.mqtt5 else paho.MQTTv311,
            reconnect_on_failure=False,  # else paho reconnects, blocking, when refused
            manual_ack=True,
        )
        client.max_inflight_messages = 0  # unbounded here: the link holds back what is too much
        client.connect_timeout = self._connect_timeout_s
        client.username_pw_set(self._address.username, self._address.password)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=_QOS, retain=will.retain)
        if self._address.tls is not None:
            client.tls_set_context(_tls_context(self._address.tls))
            if self._address.tls.insecure:
                client.tls_insecure_set(True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_register_write = self._on_register_write
        client.on_socket_close = self._on_socket_close
        return client

    def _aim(self, client: _Client) -> None:
        """Where the client connects next."""
        place = self._address.host, self._address.port, self._keepalive_s
        if self.mqtt5:
            lasting = _Properties(PacketTypes.CONNECT)
            lasting.SessionExpiryInterval = 0 if self._clean_session else _FOR_EVER_S
            client.connect_async(*place, clean_start=self._clean_session, properties=lasting)
        else:
            client.connect_async(*place)

    def _open(self) -> None:
        """On a connector thread."""
        self._client.reconnect()
        sock = self._client.socket()
        assert isinstance(sock, socket.socket)  # no websockets here
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(self, error: Exception | None) -> None:
        """The connector is done with the client."""
        sock = self._client.socket()
        if sock is not None and (error is not None or self._phase is _Phase.ABANDONED):
            sock.close()
        if self._phase is _Phase.ABANDONED:
            self._phase = _Phase.CLOSED
            return
        if error is not None:
            self._ended(_unreachable(self._address, error))
            return
        assert isinstance(sock, socket.socket)
        self._sock = sock
        self._phase = _Phase.OPEN
        self._loop.watch(sock, self)
        self._deadline = self._loop.call_later(self._connect_timeout_s, self._give_up)
        self._keep_alive()
        self._flush()

    def _give_up(self) -> None:
        self.drop(
            LinkError(
                f"{self._address} took the connection but did not answer CONNECT "
                f"within {self._connect_timeout_s:g} s",
                hint="is it an MQTT broker, and is it overloaded?",
            )
        )

    def _keep_alive(self) -> None:
        # paho compares clocks only when asked; a quarter of the period keeps it punctual. Ten
        # thousand sessions with minutes between beats need not ask every second: that takes a tenth
        # of a processor.
        period_s = min(max(1.0, self._keepalive_s / 60), self._keepalive_s / 4)
        self._tick = self._loop.call_later(period_s, self._keep_alive)
        self._guarded(self._client.loop_misc)

    def _flush(self) -> None:
        self._flush_due = False
        if self._sock is None:
            return
        self._cork(True)  # acknowledgements are of four bytes: many go in one segment
        self._guarded(self._client.loop_write)
        if self._sock is not None:
            self._cork(False)
            self._loop.watch_write(self._sock, self._client.want_write())

    def _cork(self, closed: bool) -> None:
        if _CORK is not None and isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):  # of a connection that has just ended
                self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, closed)

    def _has_read_ahead(self) -> bool:
        """Whether bytes of the connection wait in this process: ours, or inside TLS."""
        if self._sock is None:
            return False
        inside = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return bool(self._client.ahead_bytes or inside)

    def _guarded(self, step: Callable[[], object]) -> None:
        """A packet that paho cannot digest costs the connection, not the loop."""
        try:
            step()
        except Exception as error:
            _log.exception("MQTT client failed", extra={"client_id": self._client_id})
            self.drop(LinkError(f"the MQTT client failed on what {self._address} sent: {error}"))

    def _forget_socket(self) -> None:
        if self._sock is not None:
            self._loop.unwatch(self._sock)
            self._sock = None

    def _ended(self, error: LinkError | None) -> None:
        if self._phase in (_Phase.CLOSED, _Phase.ABANDONED):
            return  # paho may report one end twice
        self._phase = _Phase.CLOSED
        self._forget_socket()
        for timer in (self._deadline, self._tick):
            if timer is not None:
                timer.cancel()
        if self._falls_back:
            self._falls_back = False
            self._client = self._make()
            self.connect()
            return
        self._place = (self._place + 1) % len(self._places)
        self._events.on_closed(error)

    # paho's callbacks. All on the loop's thread, but for the one that says so.

    def _on_connect(
        self,
        client: paho.Client,
        data: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        said: Any,
    ) -> None:
        self._progress = True
        if reason.is_failure:
            # With another client in between, nothing may be under way.
            self._falls_back = self.mqtt5 and not self._was_up and str(reason) == _UNKNOWN_VERSION
            self.mqtt5 = self.mqtt5 and not self._falls_back
            self._refusal = _refused(self._address, self._client_id, str(reason))
            return  # paho hangs up and reports that
        self._phase = _Phase.ESTABLISHED
        self.moved = self._place != self._last_place
        self._last_place = self._place
        self._was_up = True
        self.receive_maximum = getattr(said, "ReceiveMaximum", _ANY_NUMBER)
        if self._deadline is not None:
            self._deadline.cancel()
        self._events.on_established(flags.session_present)

    def _on_disconnect(
        self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, _: Any
    ) -> None:
        if self._refusal is not None:
            self._ended(self._refusal)
        elif not reason.is_failure:
            self._ended(None)
        elif self._phase is _Phase.OPEN:
            self._ended(
                LinkError(
                    f"{self._address} did not answer CONNECT as an MQTT 3.1.1 broker does",
                    hint="is it a TLS port (then mqtts://), or something else altogether?",
                )
            )
        elif reason == "Keep alive timeout":
            self._ended(
                LinkError(f"nothing heard from {self._address} for {self._keepalive_s} s: hung up")
            )
        else:
            self._ended(
                LinkError(
                    f"the connection to {self._address} ended",
                    hint="if at once again and again: another client with the same id "
                    f"({self._client_id!r}), or a message the broker does not accept",
                )
            )

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self._progress = True
        self._events.on_message(message)

    def _on_publish(self, client: paho.Client, data: Any, packet_id: int, *_: Any) -> None:
        self._progress = True
        self._events.on_published(packet_id)

    def _on_subscribe(
        self, client: paho.Client, data: Any, packet_id: int, reasons: list[ReasonCode], _: Any
    ) -> None:
        self._progress = True
        self._events.on_subscribed(
            packet_id, [str(code) if code.is_failure else "" for code in reasons]
        )

    def _on_unsubscribe(self, client: paho.Client, data: Any, packet_id: int, *_: Any) -> None:
        self._progress = True
        self._events.on_unsubscribed(packet_id)

    def _on_register_write(self, client: paho.Client, data: Any, sock: Any) -> None:
        if self._phase is _Phase.CONNECTING or self._phase is _Phase.ABANDONED:
            return  # on the connector's thread; ``_connected`` flushes
        # Once a turn, however many packets this turn queues.
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _on_socket_close(self, client: paho.Client, data: Any, sock: Any) -> None:
        if sock is self._sock:
            self._forget_socket()


def _publish_packet(topic: str, payload: bytes, *, mqtt5: bool) -> bytes:
    """PUBLISH at QoS 0, not retained (section 3.3 of MQTT 3.1.1, and of 5), without properties."""
    name = topic.encode()
    packet = bytearray([_PUBLISH])
    left = 2 + len(name) + mqtt5 + len(payload)
    while left > 0x7F:  # the length, seven bits a byte, the lowest first
        packet.append(left & 0x7F | 0x80)
        left >>= 7
    packet.append(left)
    packet += len(name).to_bytes(2, "big")
    packet += name
    packet += bytes(mqtt5)  # the length of no properties
    packet += payload
    return bytes(packet)


def _refused(address: BrokerAddress, client_id: str, reason: str) -> LinkError:
    """The error for a CONNACK that says no."""
    message = f"{address} refused the session of {client_id!r}: {reason}"
    if reason in _PASSING_REFUSALS:
        return LinkError(message)
    return Refusal(message, hint="check user, password and client id")


def _unreachable(address: BrokerAddress, error: Exception) -> LinkError:
    """The error for a TCP connect, name look-up or TLS handshake that failed."""
    message = f"cannot reach {address}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refusal(message, hint="check ca_file, and that the certificate names this host")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Refusal(message, hint="does that port speak TLS, and does it want our certificate?")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return LinkError(message, hint="raise the limit on open files (ulimit -n)")
    if isinstance(error, ConnectionRefusedError):
        return LinkError(message, hint="is a broker running there?")
    if address.tls is not None and isinstance(error, ConnectionError | ssl.SSLError):
        return LinkError(message, hint="does that port speak TLS?")
    return LinkError(message, hint="check host, port and network")
