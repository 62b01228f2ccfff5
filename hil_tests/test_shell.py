"""The shell that gives a board its settings, on a serial port of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hil_tests.bench import Bench
from hil_tests.boards import Board
from hil_tests.credentials import NAME, enrolled
from hil_tests.desk import WAIT_S
from propeller_fl.errors import RequestError
from propeller_fl.firmware import BoardKind, DeviceSetup, type_settings
from propeller_fl.link import BrokerAddress
from tests.proplet.modules import say

pytestmark = pytest.mark.parametrize("variant", ["shell"])


@pytest.fixture(autouse=True)
def _console_is_a_port(bench: Bench) -> None:
    if bench.spec.kind is not BoardKind.NATIVE:
        pytest.skip("only native_sim's console is a port that others may open")


def test_a_credential_typed_on_the_console_is_used_from_the_next_start(
    new_board: Callable[..., Board], tmp_path: Path
) -> None:
    with enrolled(tmp_path / "deployment") as given:
        board = new_board()
        board.start(DeviceSetup(NAME, given.address))  # neither its login nor whom to trust
        port = board.console.expect(r"pseudotty: (\S+)", WAIT_S)[1].decode()
        board.console.expect("there is no authority's certificate", WAIT_S)
        type_settings(port, given.settings)
        board.reset()

        board.console.expect("connected to the broker", WAIT_S)
        given.desk.await_arrival(1)
        assert given.desk.run(say("with a credential")).results == "with a credential"


def test_a_value_the_board_cannot_use_is_refused(
    new_board: Callable[..., Board], tmp_path: Path
) -> None:
    board = new_board()
    board.start(DeviceSetup(NAME, BrokerAddress("127.0.0.1", 9)))
    port = board.console.expect(r"pseudotty: (\S+)", WAIT_S)[1].decode()
    for settings, why in (
        ({"broker_port": "70000"}, "broker_port: unknown, too long or impossible"),
        ({"tls_ca": "A" * 2049}, "tls_ca: too long"),
        ({"tls_ca": "?" * 100}, "tls_ca: unknown, too long or impossible"),
        ({"nonsense": "1"}, "nonsense: unknown, too long or impossible"),
        ({"a-name-that-no-key-has-at-all": "1"}, "there is no such key"),
    ):
        with pytest.raises(RequestError, match=why):
            type_settings(port, settings)
    type_settings(port, {"broker_port": "1883", "broker_user": ""})
