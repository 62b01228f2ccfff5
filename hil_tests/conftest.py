"""Options and fixtures: which boards, and a started board with a desk in front of it.

pytest hil_tests                                            native_sim
pytest hil_tests --board native_sim --board mps2_an385      both, one after the other
pytest hil_tests --board nucleo_f767zi --lab lab.toml       a real one
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from hil_tests.bench import Bench
from hil_tests.boards import Board, read_lab
from hil_tests.desk import PROPLET_ID, WAIT_S, Desk
from propeller_fl.firmware import BoardKind, DeviceSetup, find_board, missing_for_board
from tests.support.brokers import IMPATIENT, RunningBroker, embedded_broker
from tests.support.peers import Peer, peer_at

_DEFAULT_BOARD: Final = "native_sim"
_TEST_TIMEOUT_S: Final = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hil", "hardware in the loop")
    group.addoption(
        "--board",
        action="append",
        metavar="NAME",
        help=f"a folder of boards/; may be repeated (default: {_DEFAULT_BOARD})",
    )
    group.addoption(
        "--lab",
        type=Path,
        metavar="FILE",
        help="TOML file that describes the attached boards; see hil_tests/boards/_lab.py",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench" in metafunc.fixturenames:
        boards = metafunc.config.getoption("--board") or [_DEFAULT_BOARD]
        metafunc.parametrize("bench", boards, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's own time is limited; builds, which are fixtures, have a limit of their own."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT_S, func_only=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where firmware cannot be built; from here, not a fixture, it is one line for all."""
    callspec = getattr(item, "callspec", None)
    reason = _no_firmware(callspec.params["bench"]) if callspec else ""
    if reason:
        pytest.skip(reason)


@functools.cache
def _no_firmware(target: str) -> str:
    lacking = missing_for_board(find_board(target))
    return f"no firmware for {target} here: {'; '.join(map(str, lacking))}" if lacking else ""


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Bench:
    """The boards of one ``--board``."""
    spec = find_board(request.param)
    if spec.kind is not BoardKind.WEST:
        return Bench(spec)
    lab_file = request.config.getoption("--lab")
    if lab_file is None:
        raise pytest.UsageError(f"{spec.target} is a real board: describe it in a --lab FILE")
    lab = tuple(board for board in read_lab(lab_file) if board.target == spec.target)
    if not lab:
        raise pytest.UsageError(f"{lab_file} describes no {spec.target}")
    return Bench(spec, lab)


@pytest.fixture
def nats(bench: Bench, tmp_path: Path) -> Iterator[RunningBroker]:
    """The embedded broker, where the boards can reach it."""
    with embedded_broker(tmp_path, replace(IMPATIENT, host=bench.broker_host)) as broker:
        yield broker


@pytest.fixture
def peer(nats: RunningBroker) -> Iterator[Peer]:
    with peer_at(nats.address) as peer:
        yield peer


@pytest.fixture
def desk(peer: Peer) -> Desk:
    """In front of the proplet PROPLET_ID, which has not been started."""
    return Desk(peer)


@pytest.fixture
def variant() -> str:
    """Which of bench.VARIANTS to run; ``@pytest.mark.parametrize("variant", ["tls"])``."""
    return ""


@pytest.fixture
def new_board(bench: Bench, variant: str, tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Makes boards with the firmware on them: ``new_board(number=0)``. They are switched off in
    the end, and what one said that it must not say fails the test, even if nobody waited for it.
    """
    bench.build(variant)  # here, because a build is none of the test's own time
    boards: list[Board] = []

    def make(number: int = 0) -> Board:
        if number >= bench.size:
            pytest.skip(f"the lab file has {bench.size} of {bench.spec.target}, not {number + 1}")
        boards.append(bench.board(tmp_path / f"board-{number}", variant, number))
        return boards[-1]

    yield make
    failures = []
    for board in boards:
        try:
            board.finish()
        except AssertionError as error:
            failures.append(str(error))
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def board(new_board: Callable[..., Board], nats: RunningBroker, desk: Desk) -> Board:
    """A board that has joined."""
    board = new_board()
    board.start(DeviceSetup(PROPLET_ID, nats.address))
    board.console.expect("connected to the broker", WAIT_S)
    desk.await_arrival(1)
    return board
