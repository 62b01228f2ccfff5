"""Real brokers for tests: ours, and Debian's mosquitto where it is installed.

    with embedded_broker(tmp_path) as broker: …       one of them
    def test_x(broker: RunningBroker) -> None: …      on both, one after the other

The fixtures work where this module is imported by a conftest.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest

from propeller_fl.link import BrokerAddress, BrokerSettings, EmbeddedBroker, TlsOptions

from .wait import wait_until

IMPATIENT = BrokerSettings(redeliver_after_s=1.0)

# Stock mosquitto drops messages past 1,000 queued; the saves make its state survive SIGKILL.
MOSQUITTO_DURABLE = """
max_queued_messages 0
max_inflight_messages 0
persistence true
autosave_on_changes true
autosave_interval 1
"""


class RunningBroker(Protocol):
    """What a test may do to a broker. ``start`` after ``kill`` or ``stop`` keeps port and store."""

    @property
    def address(self) -> BrokerAddress: ...

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL, and wait until it has gone."""


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until every thread of the process stands still."""
    os.kill(pid, signal.SIGSTOP)

    def still() -> bool:
        states = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return all(state.rpartition(")")[2].split()[0] == "T" for state in states)

    wait_until(still, 5, f"process {pid} stands still")


class _Embedded:
    def __init__(self, data_dir: Path, settings: BrokerSettings) -> None:
        # a real board reaches it over a real network
        self._broker = EmbeddedBroker(data_dir, settings, allow_plain=True)
        self.start = self._broker.start

    @property
    def address(self) -> BrokerAddress:
        return self._broker.address

    @property
    def pid(self) -> int:
        pid = self._broker.pid
        assert pid is not None, "the broker is not running"
        return pid

    def stop(self) -> None:
        self._broker.stop(timeout_s=0.5)  # it takes its time after thousands of sessions

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self._broker.running, 5, "the killed broker is gone")


class _Mosquitto:
    def __init__(self, binary: str, directory: Path, address: BrokerAddress, config: str) -> None:
        self.address = address
        self._command = [binary, "-c", str(directory / "mosquitto.conf")]
        self._log = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "mosquitto.conf").write_text(
            f"listener {address.port} {address.host}\n"
            f"user {getpass.getuser()}\n"  # else it becomes another user, who may not write here
            f"persistence_location {directory}/\n{config}"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._listens, 10, f"mosquitto listens, see {self._log}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"mosquitto ended: {self._log.read_text()}")
        with contextlib.suppress(OSError):
            socket.create_connection((self.address.host, self.address.port), 1).close()
            return True
        return False


@dataclass(frozen=True)
class Certificates:
    """PEM files of a CA made for one test, and of a server at 127.0.0.1 it vouches for."""

    ca: Path
    certificate: Path
    key: Path


@contextlib.contextmanager
def embedded_broker(
    directory: Path, settings: BrokerSettings = IMPATIENT
) -> Iterator[RunningBroker]:
    """nats-server with its files under ``directory``, on a free port; up in some 30 ms."""
    broker = _Embedded(directory / "broker", replace(settings, port=0))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextlib.contextmanager
def mosquitto(
    directory: Path,
    *,
    config: str = MOSQUITTO_DURABLE,
    password: str | None = None,
    tls: Certificates | None = None,
) -> Iterator[RunningBroker]:
    """Debian's mosquitto on a free port; the test is skipped where it is not installed.

    With ``password`` it admits only the user "tester", who is also in ``address``.
    """
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    directory = directory / "mosquitto"
    directory.mkdir()
    address = BrokerAddress("127.0.0.1", free_port())
    if password is None:
        config += "allow_anonymous true\n"
    else:
        passwords = directory / "passwords"
        subprocess.run(
            ["mosquitto_passwd", "-c", "-b", str(passwords), "tester", password],
            check=True,
            capture_output=True,
        )
        config += f"allow_anonymous false\npassword_file {passwords}\n"
        address = replace(address, username="tester", password=password)
    if tls is not None:
        config += f"cafile {tls.ca}\ncertfile {tls.certificate}\nkeyfile {tls.key}\n"
        address = replace(address, tls=TlsOptions(ca_file=tls.ca))
    broker = _Mosquitto(binary, directory, address, config)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def make_certificates(directory: Path) -> Certificates:
    """A CA and a server certificate for 127.0.0.1; skipped where there is no openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    ca_key = str(directory / "ca.key")
    _openssl("req", "-x509", *curve, "-subj", "/CN=test CA", "-keyout", ca_key, "-out", files.ca)
    request = directory / "server.csr"
    _openssl("req", *curve[:-2], "-subj", "/CN=broker", "-keyout", files.key, "-out", request)
    names = directory / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    ca = ["-CA", str(files.ca), "-CAkey", ca_key, "-CAcreateserial", "-days", "2"]
    _openssl("x509", "-req", "-in", request, *ca, "-extfile", names, "-out", files.certificate)
    return files


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    """Each broker we support, in turn."""
    make = embedded_broker if request.param == "nats" else mosquitto
    with make(tmp_path) as running:
        yield running


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[RunningBroker]:
    """The embedded broker."""
    with embedded_broker(tmp_path) as running:
        yield running
