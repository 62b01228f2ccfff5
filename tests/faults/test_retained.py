"""Members that die while hundreds of retained messages are on their way to them.

The embedded broker counts what was not acknowledged then against the session's window for ever, if
it was sent at QoS 1. With a full window it says nothing more to anybody of that session.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from propeller_fl.link import BrokerSettings
from tests.faults.expected import BASE_MODEL
from tests.faults.processes import running
from tests.faults.rounds import Rounds
from tests.support.brokers import RunningBroker
from tests.support.peers import peer_at

RETAINED = BrokerSettings().max_unacknowledged + 44
MEMBERS = {
    "manager": ("manager.status-heard-before-the-broker-knows", "fl/rounds/old-{}/status"),
    "coordinator": ("coordinator.model-heard-before-the-broker-knows", "fl/models/old-{}"),
    "model-server": ("model-server.model-heard-before-the-broker-knows", "fl/models/old-{}"),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("member", MEMBERS)
def test_who_dies_among_retained_messages_hears_again(
    nats: RunningBroker, tmp_path: Path, member: str
) -> None:
    point, topic = MEMBERS[member]
    with running(tmp_path, nats) as processes, peer_at(nats.address) as peer:
        for number in range(RETAINED):
            peer.publish(topic.format(number), BASE_MODEL, retain=True)
        victim = processes[member]
        victim.kill()
        victim.start(kill_at=point, armed=True)
        victim.wait_killed_at(point)
        victim.start()
        victim.wait_ready()

        rounds = Rounds(tmp_path, peer)
        rounds.start()
        rounds.wait_complete()
        rounds.judge()
