"""TLS to the broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hil_tests.bench import Bench
from hil_tests.boards import Board
from hil_tests.credentials import NAME, enrolled
from hil_tests.desk import PROPLET_ID, WAIT_S, Desk
from propeller_fl.firmware import BoardKind, DeviceSetup
from propeller_fl.link import TlsOptions
from tests.proplet.modules import say
from tests.support.brokers import make_certificates, mosquitto
from tests.support.peers import peer_at

pytestmark = pytest.mark.parametrize("variant", ["tls"])


@pytest.fixture(autouse=True)
def _loopback_only(bench: Bench) -> None:
    if bench.spec.kind is BoardKind.WEST:
        pytest.skip("the test's TLS broker listens on this machine's loopback only")


def test_only_a_broker_of_the_known_authority_is_trusted(
    new_board: Callable[..., Board], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    wrong = TlsOptions(ca_file=make_certificates(other).ca)
    with (
        mosquitto(tmp_path, tls=make_certificates(tmp_path)) as broker,
        peer_at(broker.address) as peer,
    ):
        desk = Desk(peer)
        board = new_board()

        board.start(DeviceSetup(PROPLET_ID, replace(broker.address, tls=wrong)))
        for _ in range(2):  # it goes on trying, and does not give in
            board.console.expect(
                "no connection to", WAIT_S, not_matching=["connected to the broker"]
            )
        assert desk.arrivals() == 0

        board.start(DeviceSetup(PROPLET_ID, broker.address))
        board.console.expect("connected to the broker", WAIT_S)
        desk.await_arrival(1)
        assert desk.run(say("over TLS")).results == "over TLS"


def test_a_board_with_a_credential_takes_part_until_it_is_revoked(
    new_board: Callable[..., Board], tmp_path: Path
) -> None:
    """Certificate, login and topics of its own, on the embedded broker of a deployment."""
    with enrolled(tmp_path / "deployment") as given:
        more = {key: value for key, value in given.settings.items() if value}
        del more["broker_host"]  # as the board reaches it

        board = new_board()
        board.start(DeviceSetup(NAME, given.address, more=more))
        board.console.expect("connected to the broker", WAIT_S)
        given.desk.await_arrival(1)
        assert given.desk.run(say("with a credential")).results == "with a credential"

        given.broker.desk.revoke(NAME)
        board.console.expect("no connection to|refuses", WAIT_S)
        given.desk.await_offline()
