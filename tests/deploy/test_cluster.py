"""The ready cluster: its files agree, and the three nodes of them are one broker."""

from __future__ import annotations

import re
from pathlib import Path
from queue import SimpleQueue

import pytest

from propeller_fl import config
from propeller_fl.errors import LinkError
from propeller_fl.link import BrokerAddress, ClusterNode, Incoming, Link, LinkLoop
from tests.support.cluster import JOINED, steady_ports
from tests.support.services import Service, running
from tests.support.wait import wait_until

FILES = Path(__file__).parents[2] / "deploy" / "cluster"
NODES = [FILES / f"node-{n}.toml" for n in (1, 2, 3)]
PATIENCE_S = 200


def test_the_files_agree() -> None:
    found = [config.load(path, environ={}) for path in NODES]
    assert {path.name for path in FILES.glob("node-*")} == {path.name for path in NODES}
    for settings in found:
        assert ClusterNode(settings.broker.node, settings.broker.nodes).is_loopback
        assert settings.broker.nodes == found[0].broker.nodes
    assert {settings.broker.node for settings in found} == set(found[0].broker.nodes)
    assert len({settings.data_dir for settings in found}) == len(found)
    services = config.load(FILES / "services.toml", environ={})
    places = BrokerAddress.parse(services.broker.url).places
    assert [place.host for place in places] == ["127.0.0.1"] * 3
    assert {place.port for place in places} == {settings.broker.port for settings in found}


@pytest.mark.timeout(900)
def test_what_is_said_at_one_node_is_heard_at_the_others(tmp_path: Path) -> None:
    ports = steady_ports(6)
    clients, routes = ports[:3], ports[3:]
    nodes = []
    for n, path in enumerate(NODES, start=1):
        text = re.sub(r":622(\d)", lambda found: f":{routes[int(found[1]) - 1]}", path.read_text())
        text = re.sub(r"port = 188\d", f"port = {clients[n - 1]}", text)
        here = tmp_path / path.name
        here.write_text(text)
        nodes.append(Service(tmp_path / f"n{n}", None, "--config", str(here), "broker"))
    heard: SimpleQueue[int] = SimpleQueue()
    with running(*nodes), LinkLoop() as loop:
        for node in nodes:
            node.wait_for(JOINED, timeout_s=PATIENCE_S)
        for number, port in enumerate(clients):
            subscribe(loop, port, number, heard)
        speaker = Link(loop, BrokerAddress("127.0.0.1", clients[0]), "speaker")
        speaker.start()
        speaker.publish("test/said", b"").wait(PATIENCE_S)
        assert {heard.get(timeout=PATIENCE_S) for _ in clients} == {0, 1, 2}


def subscribe(loop: LinkLoop, port: int, number: int, heard: SimpleQueue[int]) -> None:
    """A session at one node; a busy machine may refuse it the topic for a while."""

    def hear(incoming: Incoming) -> None:
        heard.put(number)
        incoming.ack()

    link = Link(loop, BrokerAddress("127.0.0.1", port), f"hears-{number}")
    link.start()
    link.wait_connected(PATIENCE_S)

    def subscribed() -> bool:
        try:
            link.subscribe("test/+", hear).wait(PATIENCE_S)
        except LinkError:
            return False
        return True

    wait_until(subscribed, PATIENCE_S, f"session {number} may subscribe")
