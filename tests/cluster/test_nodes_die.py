"""A cluster of three nodes: what outlives one of them, and whether it is one of three again.

`make test` kills one beside sessions. `make faults` kills six, and three in the middle of rounds,
one after the other: had the first not come back as a whole node, there would be no majority left.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from propeller_fl.access import AccessRole, Credential
from propeller_fl.errors import LinkError
from propeller_fl.link import BrokerAddress, Incoming, Link, LinkLoop, opens_session
from tests.faults.processes import PROPLETS, Processes, running
from tests.faults.rounds import FULL, Rounds
from tests.support.brokers import freeze
from tests.support.cluster import NAMES, Cluster, cluster
from tests.support.peers import Peer, peer_at
from tests.support.wait import wait_until

PATIENCE_S = 200
LATE = "proplet-2"  # has a process of its own
VICTIMS = ("coordinator", LATE, "manager")
"""Whose nodes die in the middle of rounds."""
DYING = 2 * NAMES if FULL else NAMES[:1]
"""Those that die beside sessions."""


@pytest.mark.timeout(900)
def test_sessions_outlive_a_node(tmp_path: Path) -> None:
    with cluster(tmp_path / "farm", [LATE]) as three, LinkLoop() as loop:
        for number, victim in enumerate(DYING):
            outlives(loop, three, victim, f"test/{number}")
        assert len(three.forget_feeds(NAMES[0])) >= len(NAMES)  # as JetStream does after a while
        retain(loop, three, "test/after")
        for node in NAMES:
            takes_up(loop, three, node, "test/after")
        thrown_out(three)


@pytest.mark.skipif(not FULL, reason="nodes are killed in the middle of rounds by `make faults`")
@pytest.mark.timeout(1800)
def test_rounds_outlive_any_node(tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    with (
        cluster(farm, PROPLETS) as three,
        running(farm, three.address, apart=(LATE,)) as processes,
        peer_at(three.keeper) as peer,
    ):
        rounds = rounds_of(farm, peer)
        for client in VICTIMS:
            victim = three.node_of(f"{client}-")
            play(rounds, three, processes, victim)
            three.start(victim)
        rounds.judge()


def outlives(loop: LinkLoop, three: Cluster, victim: str, topic: str) -> None:
    """What the node knew is had at the others, and what they are told meanwhile at each of them."""
    left = [name for name in NAMES if name != victim]
    leave_behind(loop, three, victim, f"{topic}/kept")
    three.kill(victim)
    find_again(loop, three, left[0], f"{topic}/kept")
    retain(loop, three, f"{topic}/meanwhile")
    for node in left:
        takes_up(loop, three, node, f"{topic}/meanwhile")
    three.start(victim)
    find_again(loop, three, victim, f"{topic}/kept")
    takes_up(loop, three, victim, f"{topic}/meanwhile")


def rounds_of(farm: Path, peer: Peer) -> Rounds:
    """A cluster refuses what its nodes do not agree on within 5 s; a busy machine takes longer."""

    def subscribed() -> Rounds | None:
        try:
            return Rounds(farm, peer, timeout_s=PATIENCE_S)
        except LinkError:
            return None

    found = wait_until(subscribed, PATIENCE_S, "the broker takes the subscriptions")
    assert found is not None
    return found


def play(rounds: Rounds, three: Cluster, processes: Processes, victim: str) -> None:
    """A round in the middle of which the node dies: all updates but one are in."""
    late = processes[LATE].pid
    freeze(late)
    rounds.start()
    rounds.wait_open(accepted=len(PROPLETS) - 1)
    three.kill(victim)
    os.kill(late, signal.SIGCONT)
    rounds.wait_complete()


def thrown_out(three: Cluster) -> None:
    """A revoked proplet is let in at no node."""
    path = three.desk.path_of(LATE, AccessRole.PROPLET)
    credential = Credential.load(path)
    places = credential.address().places
    wait_until(lambda: all(map(lets_in, places)), PATIENCE_S, "each node knows the proplet")
    assert "Authorization Violation" in said_to_one_more_node(three, credential)
    three.desk.revoke(LATE)
    assert not any(map(lets_in, places))


def said_to_one_more_node(three: Cluster, credential: Credential) -> str:
    """What a proplet hears that says it is a node: its certificate is good, the password is not."""
    node = three.desk.plan.nodes[0]
    greeting = {"name": "n4", "cluster": "propeller-fl", "user": "node", "pass": "guessed"}
    with (
        socket.create_connection((node.host, node.route_port), PATIENCE_S) as sock,
        credential.tls.context().wrap_socket(sock, server_hostname=node.host) as tls,
    ):
        tls.sendall(f"CONNECT {json.dumps(greeting)}\r\n".encode())
        with tls.makefile("rb") as answer:
            return answer.read().decode()


def lets_in(place: BrokerAddress) -> bool:
    return opens_session(place, "somebody-else")


def leave_behind(loop: LinkLoop, three: Cluster, node: str, topic: str) -> None:
    """A session without a connection, and a message that is retained, both made at this node."""
    link = Link(loop, three.at(node), "wanderer")
    link.subscribe(topic, Incoming.ack)
    link.start()
    link.wait_connected(PATIENCE_S)
    link.publish(topic, b"kept", retain=True).wait(PATIENCE_S)
    link.close()


def retain(loop: LinkLoop, three: Cluster, topic: str) -> None:
    """A message, at whichever node."""
    link = Link(loop, three.keeper, "keeper", clean_session=True)
    link.start()
    link.publish(topic, b"kept", retain=True).wait(PATIENCE_S)
    link.close()


def takes_up(loop: LinkLoop, three: Cluster, node: str, topic: str) -> None:
    """That node has what is retained, for whoever comes."""
    link = Link(loop, three.at(node), f"visitor-of-{node}", clean_session=True)
    link.start()
    wait_until(
        lambda: had(link, topic), PATIENCE_S, f"what is retained on {topic} is had at {node}"
    )
    link.close()


def had(link: Link, topic: str, within_s: float = 5) -> bool:
    """What is retained can be missed, and is then asked for again."""
    retained: SimpleQueue[bytes] = SimpleQueue()

    def hear(incoming: Incoming) -> None:
        if incoming.retained:
            retained.put(incoming.payload)
        incoming.ack()

    link.subscribe(topic, hear)
    try:
        return retained.get(timeout=within_s) == b"kept"
    except Empty:
        return False


def find_again(loop: LinkLoop, three: Cluster, node: str, topic: str) -> None:
    """Both, at another node."""
    present: SimpleQueue[bool] = SimpleQueue()
    link = Link(loop, three.at(node), "wanderer")
    link.on_up = present.put
    link.start()
    assert present.get(timeout=PATIENCE_S)
    wait_until(
        lambda: had(link, topic), PATIENCE_S, f"what the dead node retained is had at {node}"
    )
    link.close()
