"""An MQTT broker of our own: nats-server as a child process, its MQTT state in JetStream."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from .. import disk
from ..errors import BrokerError, ConfigError
from ._address import BrokerAddress, is_loopback
from ._asking import READY_ID, listens, opens_session
from ._broker_process import Child, find_binary
from ._broker_reload import PID_FILE
from ._cluster import ClusterNode, RouteSecurity, Settling, has_joined
from ._jetstream import Login, bound_queue
from ._retained import RetainedFeed
from ._storage_watch import StorageWatch

_log = logging.getLogger(__name__)

_POLL_S = 0.005
_PORT_ATTEMPTS = 3
_HANDSHAKE_S = 2.0
_LOCK_PATIENCE_S = 1.0
_GOODBYE_S = 2.0
_START_S = 15.0
_QUORUM_S = 12.0  # it asks the others for 5 s, twice
_TLS_HANDSHAKE_S = 15  # with a board that counts primes, or on a busy machine
_ENVELOPE_BYTES = 256 * 1024  # what the server adds to a payload: topic, up to 64 KiB, and headers
_MAX_PAYLOAD_BYTES = 64 * 1024 * 1024 - _ENVELOPE_BYTES  # nats-server takes no more than 64 MiB
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # how to reach a wildcard


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """What may be set on the embedded broker.

    ``redeliver_after_s``: a message that was delivered and not acknowledged is delivered again
    after this time, and not before, not even to a client that has reconnected meanwhile.
    """

    host: str = "127.0.0.1"
    port: int = 1883  # 0: a free one, picked at the first start
    max_payload_bytes: int = 8 * 1024 * 1024
    memory_bytes: int = 256 * 1024 * 1024  # soft limit on its heap
    max_store_bytes: int = 4 * 1024 * 1024 * 1024  # on disk; half of it for messages that wait
    redeliver_after_s: float = 5.0
    max_unacknowledged: int = 256  # messages of one subscription on their way to one client

    def __post_init__(self) -> None:
        bounds = {
            "port": (0, 65_535),
            "max_payload_bytes": (1, _MAX_PAYLOAD_BYTES),
            "memory_bytes": (32 * 1024 * 1024, None),
            "max_store_bytes": (1024 * 1024, None),
            "redeliver_after_s": (0.5, None),  # any shorter and a busy client drowns in repeats
            "max_unacknowledged": (1, 65_535),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limits = f"at least {least}" if most is None else f"{least} to {most}"
                raise ConfigError(f"broker setting {name} is {value}, must be {limits}")


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """TLS for who connects, and whom to let in.

    ``certificate``, ``key``  PEM files of the server's own
    ``authority``             PEM file of who must have signed the certificates of clients; None:
                              clients need none
    ``users``                 a file in nats-server's format that holds its ``authorization``; it is
                              read again by :func:`reload_broker`
    ``own_login``             how the broker's keeper reaches it: user, password, TLS. May do all
    ``routes``                between the nodes of a cluster
    """

    certificate: Path
    key: Path
    authority: Path | None
    users: Path
    own_login: BrokerAddress
    routes: RouteSecurity | None = None


class EmbeddedBroker:
    """A broker that lives in ``data_dir`` (store, configuration, log, lock) and dies with us.

    ``on_death(error)`` is called, on a thread of its own, when it ends without ``stop``; it may
    call ``start``.
    ``start`` after a ``stop`` or a death brings it back on the same port with what it had stored.
    After a full disk it is started again by itself, once there is room.

    Without ``security`` it listens on loopback alone, unless ``allow_plain``: then anybody who
    reaches it may do everything. ConfigError otherwise.

    As a ``node`` of a cluster it is up as soon as it listens; it takes sessions once more than half
    of the nodes are there, and so does every other.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: BrokerSettings = BrokerSettings(),
        *,
        security: BrokerSecurity | None = None,
        node: ClusterNode | None = None,
        allow_plain: bool = False,
        on_death: Callable[[BrokerError], None] | None = None,
    ) -> None:
        near = is_loopback(settings.host) and (node is None or node.is_loopback)
        if security is None and not allow_plain and not near:
            raise ConfigError(
                f"the broker would listen on {settings.host} without TLS and logins",
                hint="`propeller-fl init` makes both; on a network that you trust altogether, "
                "set broker.allow_plain to true",
            )
        self._data_dir = data_dir = data_dir.absolute()
        self._settings = settings
        self._security = security
        self._node = node
        self._settling: Settling | None = None
        self._on_death = on_death
        self._stderr_path = data_dir / "broker.stderr"  # a panic, or words before it has a log
        self._port = settings.port
        self._own_port = 0
        self._health_port = 0
        self._lock = threading.Lock()  # one start or stop at a time
        self._lock_file: IO[str] | None = None
        self._child: Child | None = None
        self._watch: StorageWatch | None = None

    @property
    def address(self) -> BrokerAddress:
        """Where it listens, without a login; valid once started."""
        host = _EVERYWHERE.get(self._settings.host, self._settings.host)
        tls = self._security.own_login.tls if self._security else None
        return BrokerAddress(host, self._port, tls=tls)

    @property
    def _own_login(self) -> BrokerAddress:
        """Where it listens, as its keeper."""
        if self._security is None:
            return self.address
        login = self._security.own_login
        return replace(self.address, username=login.username, password=login.password)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.running else None

    @property
    def takes_sessions(self) -> bool:
        """Whether it runs, and as the node of a cluster has found the others since it started."""
        return self.running and (self._settling is None or self._settling.settled)

    @property
    def log_path(self) -> Path:
        return self._data_dir / "broker.log"

    def start(self, timeout_s: float = _START_S) -> None:
        """Return once an MQTT session can be opened. BrokerError says what stood in the way."""
        with self._lock:
            if self.running:
                return
            deadline_s = time.monotonic() + timeout_s
            binary = find_binary()
            self._prepare_directory()
            try:
                self._launch(binary, deadline_s, timeout_s)
            except BaseException:
                self._end(timeout_s=0.0)
                raise
            if self._watch is None:
                self._watch = StorageWatch(
                    self._data_dir, lambda: self._health_port, self._start_again
                )
                self._watch.start()
            _log.info("broker is up", extra={"address": str(self.address), "broker_pid": self.pid})

    def _launch(self, binary: str, deadline_s: float, timeout_s: float) -> None:
        """Run the server on free ports; on others if somebody takes one before it listens."""
        wanted_port = self._port
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = _free_port(self._settings.host, wanted_port)
            self._own_port = _free_port("127.0.0.1", 0)
            self._health_port = _free_port("127.0.0.1", 0)
            config = self._write_config()
            self._child = child = self._spawn([binary, "-c", str(config)])
            try:
                self._await_ready(child, deadline_s, timeout_s)
                break
            except BrokerError as error:
                if attempt == _PORT_ATTEMPTS or "address already in use" not in str(error):
                    raise
                child.end(0.0)
        if self._node is None:
            self._bound_queue(deadline_s)
        else:
            self._stop_settling()
            self._settling = self._settle_in(self._node.name)
            self._settling.start()
        child.expect_to_live()

    @property
    def _login(self) -> Login:
        login = self._own_login
        return login.username, login.password

    def _bound_queue(self, deadline_s: float) -> None:
        bound_queue(self._own_port, self._settings.max_store_bytes // 2, deadline_s, self._login)

    def _settle_in(self, node: str) -> Settling:
        """What can be done with the others alone."""
        feed = RetainedFeed(node, self._own_port, self._health_port, self._login)

        def settle() -> bool:
            if not has_joined(self._health_port):  # a session would be waited for in vain
                return False
            if not opens_session(self._own_login, f"{READY_ID}-{node}", _QUORUM_S):
                return False
            self._bound_queue(time.monotonic() + _START_S)
            return feed.keep() and has_joined(self._health_port)  # also what a session made

        return Settling(node, settle, feed.keep)

    def _stop_settling(self) -> None:
        if self._settling is not None:
            self._settling.stop()
            self._settling = None

    def _start_again(self) -> None:
        """For the watch."""
        with self._lock:
            if self._child is not None:  # else it was stopped meanwhile
                self._child.end(_GOODBYE_S)
                self._launch(find_binary(), time.monotonic() + _START_S, _START_S)

    def stop(self, timeout_s: float = _GOODBYE_S) -> None:
        """End it in an orderly way; by force after ``timeout_s``, which costs nothing but a check
        of the store at the next start (thousands of sessions take it a minute). Again is harmless.
        """
        with self._lock:
            self._end(timeout_s)

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def config(self) -> dict[str, object]:
        """The server's configuration but for users and permissions, which have their own file."""
        settings = self._settings
        security, node = self._security, self._node
        cluster = {}
        if node is not None:
            identity = (security.certificate, security.key) if security else None
            routes = security.routes if security else None
            cluster = {"cluster": node.config(settings.host, routes, identity)}
        return {
            "server_name": node.name if node else "propeller-fl",
            # nats-server always opens its own protocol too: on any port, for this machine only.
            "host": "127.0.0.1",
            "port": self._own_port,
            "http": f"127.0.0.1:{self._health_port}",  # says when it cannot store
            "max_payload": settings.max_payload_bytes + _ENVELOPE_BYTES,
            "max_connections": 65_536,
            "jetstream": {
                "store_dir": str(self._data_dir / "store"),
                "max_memory_store": 16 * 1024 * 1024,  # MQTT state is all on disk
                "max_file_store": settings.max_store_bytes,
                # A subscription is a consumer of one stream, whose default limit is 1,000.
                "limits": {"default_max_consumers": -1},
            },
            "pid_file": str(self._data_dir / PID_FILE),
            "mqtt": {
                "host": settings.host,
                "port": self._port,
                **({"tls": _tls(security)} if security else {}),
                **(node.mqtt() if node else {}),
                "ack_wait": f"{settings.redeliver_after_s:g}s",
                "max_ack_pending": settings.max_unacknowledged,
            },
            **cluster,
            "log_file": str(self.log_path),
            "log_size_limit": 16 * 1024 * 1024,
            "log_max_num": 3,
        }

    def _prepare_directory(self) -> None:
        if self._lock_file is not None:
            return  # still ours from before the broker died
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_file = (self._data_dir / "broker.lock").open("a+")
        except OSError as error:
            raise self._unusable(error) from error
        # The child inherits the lock, so that it lasts as long as either of us.
        if not _locked(lock_file):
            lock_file.seek(0)
            holder = lock_file.read().strip() or "unknown"
            lock_file.close()
            raise BrokerError(
                f"another broker uses {self._data_dir} (started by process {holder})",
                hint="stop it, connect to it, or give this one a data directory of its own",
            )
        try:
            lock_file.truncate(0)
            lock_file.write(str(os.getpid()))
            lock_file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries to write once more
                lock_file.close()
            raise self._unusable(error) from error
        self._lock_file = lock_file

    def _unusable(self, error: OSError) -> BrokerError:
        return BrokerError(
            f"the broker cannot use {self._data_dir}: {error.strerror}",
            hint=disk.remedy(error, "data_dir"),
        )

    def _write_config(self) -> Path:
        path = self._data_dir / "broker.conf"
        try:
            path.touch(mode=0o600)
            path.write_text(self._config_text())
        except OSError as error:
            raise self._unusable(error) from error
        return path

    def _config_text(self) -> str:
        """JSON is a subset of its own format, in which the outermost braces may be missing."""
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in self.config().items()]
        if self._security is not None:
            # It takes the path for one that begins beside its configuration.
            users = os.path.relpath(self._security.users, self._data_dir)
            lines.append(f"include {json.dumps(users)}")
        return "\n".join(lines) + "\n"

    def _spawn(self, command: list[str]) -> Child:
        assert self._lock_file is not None
        return Child(
            command,
            environment={**os.environ, "GOMEMLIMIT": str(self._settings.memory_bytes)},
            stderr_path=self._stderr_path,
            lock_fd=self._lock_file.fileno(),
            on_death=self._died,
        )

    def _died(self, status: int) -> None:
        error = BrokerError(
            f"the embedded broker ended by itself with status {status}",
            hint=f"its last words are in {self.log_path}",
        )
        _log.error("%s", error)
        if self._on_death is not None:
            self._on_death(error)

    def _await_ready(self, child: Child, deadline_s: float, timeout_s: float) -> None:
        ready = opens_session if self._node is None else listens
        while not ready(self._own_login):
            if not child.running:
                raise BrokerError(f"the embedded broker did not start: {self._last_words()}")
            if time.monotonic() > deadline_s:
                raise BrokerError(
                    f"the embedded broker took no MQTT session within {timeout_s:g} s",
                    hint=f"see {self.log_path}; a large store takes longer",
                )
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        for path in (self._stderr_path, self.log_path):
            with contextlib.suppress(FileNotFoundError):
                lines = path.read_text(errors="replace").split("\n")
                words = [line for line in lines if line.strip()][-3:]
                if words:
                    return " | ".join(words)
        return "it left no word"

    def _end(self, timeout_s: float) -> None:
        self._stop_settling()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._child is not None:
            self._child.end(timeout_s)
            self._child = None
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def _locked(file: IO[str]) -> bool:
    """Take the lock on ``file``; a holder that was just killed has a moment to go."""
    deadline_s = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _free_port(host: str, port: int) -> int:
    """``port`` if it can be listened on, or any that can when it is 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise BrokerError(
                    f"port {port} on {host} is in use",
                    hint=f"if it is a broker, use it as mqtt://{host}:{port}, or stop it; "
                    "or choose another port (0 picks a free one)",
                ) from None
            raise BrokerError(f"cannot listen on {host} port {port}: {error}") from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _tls(security: BrokerSecurity) -> dict[str, object]:
    options: dict[str, object] = {
        "cert_file": str(security.certificate),
        "key_file": str(security.key),
        "timeout": _TLS_HANDSHAKE_S,
    }
    if security.authority is not None:
        options |= {"ca_file": str(security.authority), "verify": True}
    return options
