"""A board that has a credential, and the deployment that gave it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hil_tests.desk import Desk
from propeller_fl.access import board_settings
from propeller_fl.link import BrokerAddress
from tests.access.brokers import Guarded, guarded
from tests.support.peers import peer_at

NAME = "board.1"


@dataclass(frozen=True)
class Enrolled:
    """``settings`` are the credential as the board's configuration has it, for ``address``, where
    the board finds ``broker``; ``desk`` sees all that it says."""

    broker: Guarded
    desk: Desk
    address: BrokerAddress
    settings: dict[str, str]


@contextlib.contextmanager
def enrolled(directory: Path) -> Iterator[Enrolled]:
    """The embedded broker of a deployment that knows the board NAME."""
    with (
        guarded("nats", directory, proplets=[NAME]) as broker,
        peer_at(broker.watcher) as peer,
    ):
        address = BrokerAddress("127.0.0.1", broker.place.port)
        credential = replace(broker.credential(NAME), broker=f"mqtts://127.0.0.1:{address.port}")
        desk = Desk(peer, NAME, own_topics=True)
        yield Enrolled(broker, desk, address, dict(board_settings(credential)))
