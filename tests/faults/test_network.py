"""The network that is cut and parted here does what the tests about it rely on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from propeller_fl.link import BrokerAddress
from tests.faults.network import Network, network
from tests.support.wait import wait_until

SILENCE_S = 0.1


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def net(server: socket.socket) -> Iterator[Network]:
    with network(BrokerAddress("127.0.0.1", server.getsockname()[1])) as net:
        yield net


def connect(way: BrokerAddress) -> socket.socket:
    return socket.create_connection((way.host, way.port), 5)


def hears(sock: socket.socket, size_bytes: int = 64) -> bytes:
    sock.settimeout(5)
    return sock.recv(size_bytes)


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(SILENCE_S)
    try:
        sock.recv(64)
    except TimeoutError:
        return True
    return False


def test_a_partition_holds_everything_back_until_it_is_over(
    net: Network, server: socket.socket
) -> None:
    with connect(net.way("one")) as client, server.accept()[0] as broker:
        client.sendall(b"before")
        assert hears(broker) == b"before"

        net.part("one")
        client.sendall(b"up")
        broker.sendall(b"down")
        assert is_silent(broker)
        assert is_silent(client)

        net.heal("one")
        assert hears(broker) == b"up"
        assert hears(client) == b"down"


def test_in_a_partition_not_even_an_end_gets_through(net: Network, server: socket.socket) -> None:
    with connect(net.way("one")) as client, server.accept()[0] as broker:
        net.part("one")
        client.close()
        assert is_silent(broker)
        net.heal("one")
        assert hears(broker) == b""


def test_a_connection_made_in_a_partition_waits(net: Network, server: socket.socket) -> None:
    way = net.way("one")
    net.part("one")
    with connect(way) as client:
        client.sendall(b"hello")
        server.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            server.accept()
        net.heal("one")
        server.settimeout(5)
        with server.accept()[0] as broker:
            assert hears(broker) == b"hello"


def test_a_cut_ends_connections_and_spares_other_members(
    net: Network, server: socket.socket
) -> None:
    one, other = net.way("one"), net.way("other")
    with connect(one) as client, server.accept()[0] as broker:
        with connect(other) as spared, server.accept()[0] as end:
            net.cut("one")
            wait_until(lambda: is_ended(client) and is_ended(broker), 5, "both ends know")
            spared.sendall(b"here")
            assert hears(end) == b"here"
        with connect(one) as again, server.accept()[0] as end:
            again.sendall(b"back")
            assert hears(end) == b"back"


def is_ended(sock: socket.socket) -> bool:
    try:
        return hears(sock) == b""
    except ConnectionResetError:
        return True
