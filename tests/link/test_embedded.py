"""The embedded broker as a process: start, death, locks, ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl.errors import BrokerError, ConfigError
from propeller_fl.link import BrokerSettings, Delivery, EmbeddedBroker, Incoming, Link, LinkLoop

from ..support.wait import wait_until
from .conftest import QUICK, Connect

ANY_PORT = BrokerSettings(port=0)


def alive(pid: int) -> bool:
    """Whether a process, of ours or not, has not ended yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_start_and_stop(tmp_path: Path, connect: Connect) -> None:
    broker = EmbeddedBroker(tmp_path, ANY_PORT)
    assert not broker.running
    with broker:
        broker.start()  # again is harmless
        connect(broker.address, "one").publish("kept", b"x", retain=True).wait(5)
        pid = broker.pid
        assert pid is not None
    assert not broker.running
    assert broker.pid is None
    assert not alive(pid)
    broker.stop()
    with broker:  # the same port, and what it had stored
        received: SimpleQueue[bytes] = SimpleQueue()
        connect(broker.address, "two").subscribe("kept", lambda i: received.put(i.payload))
        assert received.get(timeout=5) == b"x"


def test_death_is_reported(tmp_path: Path) -> None:
    deaths: SimpleQueue[BrokerError] = SimpleQueue()
    with EmbeddedBroker(tmp_path, ANY_PORT, on_death=deaths.put) as broker:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        error = deaths.get(timeout=5)
        assert "status -9" in str(error)
        assert str(broker.log_path) in error.hint
        assert not broker.running
        broker.start()
        assert broker.running
    assert deaths.empty()  # stop is not a death


def test_death_may_be_answered_with_a_start(tmp_path: Path, connect: Connect) -> None:
    restarted = threading.Event()

    def restart(_: BrokerError) -> None:
        broker.start()
        restarted.set()

    broker = EmbeddedBroker(tmp_path, ANY_PORT, on_death=restart)
    with broker:
        link = connect(broker.address, "one")
        for _ in range(3):
            restarted.clear()
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            assert restarted.wait(10)
            link.publish("a", b"").wait(10)


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            EmbeddedBroker(tmp_path, BrokerSettings(port=port)).start()
        assert f"mqtt://127.0.0.1:{port}" in caught.value.hint
    with EmbeddedBroker(tmp_path, BrokerSettings(port=port)) as broker:  # nothing was left locked
        assert broker.address.port == port


def test_two_brokers_cannot_share_a_directory(tmp_path: Path) -> None:
    said = f"another broker uses {tmp_path}.*{os.getpid()}"
    with EmbeddedBroker(tmp_path, ANY_PORT), pytest.raises(BrokerError, match=said):
        EmbeddedBroker(tmp_path, ANY_PORT).start()


def test_setting_out_of_range() -> None:
    with pytest.raises(ConfigError, match="broker setting port is 65536, must be 0 to 65535"):
        BrokerSettings(port=65_536)
    with pytest.raises(ConfigError, match="broker setting max_store_bytes is 1, must be at least"):
        BrokerSettings(max_store_bytes=1)


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"cannot use .*file/broker"):
        EmbeddedBroker(tmp_path / "file" / "broker", ANY_PORT).start()


def test_address_that_is_not_ours(tmp_path: Path) -> None:
    settings = BrokerSettings(host="203.0.113.1", port=0)
    with pytest.raises(BrokerError, match=r"cannot listen on 203\.0\.113\.1"):
        EmbeddedBroker(tmp_path, settings, allow_plain=True).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.1", "example.org"])
def test_others_are_not_let_in_without_tls_and_logins(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"without TLS and logins.*propeller-fl init"):
        EmbeddedBroker(tmp_path, BrokerSettings(host=host, port=0))


def test_server_that_does_not_start_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where its directory should be")
    deaths: list[BrokerError] = []
    with pytest.raises(BrokerError, match=r"did not start: .*JetStream"):
        EmbeddedBroker(tmp_path, ANY_PORT, on_death=deaths.append).start()
    assert not deaths


def test_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from propeller_fl.link import BrokerSettings, EmbeddedBroker\n"
        "broker = EmbeddedBroker(Path(sys.argv[1]), BrokerSettings(port=0))\n"
        "starter = threading.Thread(target=broker.start)\n"
        "starter.start(); starter.join()\n"  # the end of this thread must not end the broker
        "print(broker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        wait_until(lambda: not alive(pid), 10, "the broker went with its parent")
    with EmbeddedBroker(tmp_path, ANY_PORT):  # and left the directory free
        pass


def test_memory_is_bounded(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, BrokerSettings(port=0, memory_bytes=64 << 20)) as broker:
        environment = Path(f"/proc/{broker.pid}/environ").read_bytes().split(b"\0")
        assert b"GOMEMLIMIT=%d" % (64 << 20) in environment


def test_full_store_refuses_and_recovers(tmp_path: Path, loop: LinkLoop) -> None:
    count = 40
    settings = BrokerSettings(port=0, max_store_bytes=4_000_000)
    with EmbeddedBroker(tmp_path, settings) as broker:
        away = Link(loop, broker.address, "away")
        away.subscribe("a", Incoming.ack)
        away.start()
        away.wait_connected(5)
        away.close()

        refused = threading.Event()
        sender = Link(loop, broker.address, "sender", backoff=QUICK)
        sender.on_down = lambda _: refused.set()
        sender.start()
        deliveries: list[Delivery] = []

        def send() -> Delivery:
            delivery = sender.publish("a", b"%d " % len(deliveries) + b"x" * 100_000)
            deliveries.append(delivery)
            return delivery

        # One by one: of many under way, answers are lost with the connection.
        while not refused.is_set() and len(deliveries) < count:
            send()
            wait_until(
                lambda: deliveries[-1].done or refused.is_set(), 30, "it is taken or refused"
            )
        assert 10 <= sum(delivery.done for delivery in deliveries) < 20
        while len(deliveries) < count:
            send()

        # Who comes to fetch what waits makes room for the rest: nothing is lost.
        received: set[int] = set()

        def handle(incoming: Incoming) -> None:
            received.add(int(incoming.payload.split()[0]))
            incoming.ack()

        back = Link(loop, broker.address, "away", backoff=QUICK)
        back.subscribe("a", handle)
        back.start()
        wait_until(lambda: len(received) == count, 60, "all messages came")
        wait_until(lambda: all(d.done for d in deliveries), 30, "and all were acknowledged")
