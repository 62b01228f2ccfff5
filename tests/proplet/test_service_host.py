"""A process of proplets: its beginning, its ends, and many of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from propeller_fl.config import PropletConfig
from propeller_fl.errors import ConfigError, LinkError
from propeller_fl.link import BrokerAddress, LinkLimits
from propeller_fl.proplet import PropletHost
from propeller_fl.wire import Topics

from ..support.brokers import RunningBroker, free_port
from ..support.wait import wait_until
from .conftest import CONFIG, HostMaker
from .other_side import PATIENCE_S, OtherSide, update, writes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(broker: RunningBroker) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a proplet in a process of its own, that is up, and gone at the end of the test."""
    processes = []

    def start(proplet_id: str) -> subprocess.Popen[str]:
        address = broker.address
        command = [sys.executable, "-m", "tests.proplet.host_process", address.host]
        process = subprocess.Popen(
            [*command, str(address.port), proplet_id], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def test_killed_proplet_is_reported_offline(
    other: OtherSide, process: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = process("p-1")

    victim.kill()

    wait_until(lambda: other.alive()[-1:] == ["offline"], PATIENCE_S, "the last will")


def test_killed_proplet_given_its_task_again_sends_the_same_update(
    other: OtherSide, process: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = process("p-1")
    task = other.run(writes(update(proplet_id="p-1")))
    sent = other.wait_for_updates()[0]
    victim.kill()
    victim.wait(10)
    wait_until(lambda: other.alive()[-1:] == ["offline"], PATIENCE_S, "the last will")
    before = len(other.updates())

    process("p-1")
    other.give(task)

    assert other.wait_for_updates(before + 1)[-1] == sent
    other.answer(sent)
    assert other.wait_for_result().error == ""


def test_proplet_that_leaves_says_so_last(other: OtherSide, host: HostMaker) -> None:
    left = host("p-1", "p-2")

    left.stop()

    wait_until(
        lambda: [other.alive(name)[-1:] for name in ("p-1", "p-2")] == 2 * [["offline"]],
        PATIENCE_S,
        "both say that they are offline",
    )


def test_hundred_proplets_each_do_their_task(other: OtherSide, host: HostMaker) -> None:
    ids = [f"p-{number}" for number in range(100)]
    host(*ids, resend_after_s=60.0, heartbeat_s=10.0)
    other.publish_model()
    url = other.publish_image(writes(update()))

    for proplet_id in ids:
        other.give(other.task(url, f"t.{proplet_id}", proplet_id=proplet_id))

    wait_until(
        lambda: all(other.updates(proplet_id=proplet_id) for proplet_id in ids),
        60,
        "each has sent an update",
    )
    for proplet_id in ids:
        (sent,) = other.updates(proplet_id=proplet_id)
        assert json.loads(sent)["proplet_id"] == proplet_id
    other.close_round()
    for proplet_id in ids:
        assert other.wait_for_result(f"t.{proplet_id}").error == ""


def test_proplets_wait_for_a_broker() -> None:
    address = BrokerAddress("127.0.0.1", free_port())
    with (
        PropletHost(address, Topics(), CONFIG) as proplets,
        pytest.raises(LinkError, match="not connected within"),
    ):
        proplets.wait_connected(0.1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(CONFIG, ids=()), "empty"),
        (replace(CONFIG, ids=("a/b",)), "not an id"),
        (replace(CONFIG, ids=("p-1", "p-1")), "twice"),
        (replace(CONFIG, data="/no/such/directory"), "neither a data set nor a directory"),
        (replace(CONFIG, output_bytes=1 << 30), "output_bytes"),
        (replace(CONFIG, fuel=0), "fuel"),
    ],
)
def test_host_that_cannot_be_is_refused(config: PropletConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PropletHost(BrokerAddress("127.0.0.1", 1), Topics(), config)


def test_links_limit_bounds_the_output() -> None:
    with pytest.raises(ConfigError, match="no more than 100 bytes"):
        PropletHost(
            BrokerAddress("127.0.0.1", 1),
            Topics(),
            replace(CONFIG, output_bytes=101),
            limits=LinkLimits(max_payload_bytes=100),
        )
