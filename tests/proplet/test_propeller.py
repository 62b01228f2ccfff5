"""A proplet under Propeller's manager: its messages, as they were seen on the wire."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from propeller_fl.link import Link, LinkLoop
from propeller_fl.manager import ImageLibrary, ImageRegistry
from propeller_fl.wire import ImageChunk, ImageRequest, TaskStart, TaskStop, Topics

from ..firmware.toolchain import FIXTURES
from ..support.brokers import RunningBroker
from ..support.wait import wait_until
from .conftest import HostMaker
from .modules import ENDLESS, SLEEPER
from .other_side import OtherSide
from .test_generic import ADD

PATIENCE_S = 60.0
TOPICS = Topics("m/domain/c/channel")


@pytest.fixture
def broker(nats: RunningBroker) -> RunningBroker:
    """One is enough: both are tried with our own manager's messages."""
    return nats


@pytest.fixture
def theirs(broker: RunningBroker) -> Iterator[OtherSide]:
    with LinkLoop() as loop:
        yield OtherSide(loop, broker, TOPICS)


@pytest.fixture
def registry(broker: RunningBroker, tmp_path: Path) -> Iterator[ImageRegistry]:
    """A manager's, with what is at hand under names of others."""
    (tmp_path / "add.wasm").write_bytes(ADD)
    names = {"registry.example/add:v1": str(tmp_path / "add.wasm")}
    with LinkLoop() as loop:
        link = Link(loop, broker.address, "registry")
        made = ImageRegistry(link, TOPICS, ImageLibrary(names), chunk_bytes=16)
        made.start()
        link.start()
        link.wait_connected(PATIENCE_S)
        yield made
        made.stop()
        link.close(5.0)


def fixture(name: str) -> bytes:
    return (FIXTURES / "valid" / f"{name}.json").read_bytes()


def give(theirs: OtherSide, payload: bytes) -> str:
    theirs.publish(theirs.topics.task_start, payload)
    return str(json.loads(payload)["id"])


def result_of(theirs: OtherSide, task_id: str, count: int = 1) -> str:
    found = wait_until(
        lambda: theirs.results(task_id) if len(theirs.results(task_id)) >= count else [],
        PATIENCE_S,
        f"{count} results of {task_id}",
    )
    return found[-1].results or found[-1].error


def test_a_function_in_the_task_itself(theirs: OtherSide, host: HostMaker) -> None:
    host("p-one", "p-other", topics=TOPICS)

    task_id = give(theirs, fixture("task_start-propeller_function"))

    assert result_of(theirs, task_id) == "8"
    assert [result.proplet_id for result in theirs.results(task_id)] == ["p-one"]


def test_a_function_from_a_registry_on_every_proplet(
    theirs: OtherSide, host: HostMaker, registry: ImageRegistry
) -> None:
    host("p-one", "p-two", topics=TOPICS)

    task_id = give(theirs, fixture("task_start-propeller_broadcast"))

    assert result_of(theirs, task_id, count=2) == "42"
    assert {result.proplet_id for result in theirs.results(task_id)} == {"p-one", "p-two"}


def test_chunks_that_somebody_else_asked_for_are_taken(theirs: OtherSide, host: HostMaker) -> None:
    """There is no registry here to answer: the chunks come from somewhere, the last one first."""
    host("p-one", topics=TOPICS)
    task = TaskStart("t-1", "add", "p-one", "registry.example/add:v1", {}, inputs=("1", "2"))
    give(theirs, task.encode())
    give(theirs, TaskStart("t-2", "add", "p-one", "/no/such/file", {}).encode())
    result_of(theirs, "t-2")  # so the first one is under way

    pieces = [ADD[at : at + 16] for at in range(0, len(ADD), 16)]
    for _ in range(10):  # a broker may lose one, and nobody here answers when it is asked for
        for index, piece in reversed(list(enumerate(pieces))):
            chunk = ImageChunk(task.image_url, index, len(pieces), piece)
            theirs.publish(TOPICS.registry_chunks, chunk.encode())
        with contextlib.suppress(AssertionError):
            wait_until(lambda: theirs.results("t-1"), 6, "the function has been called")
            break

    assert theirs.results("t-1")[0].results == "3"


def test_a_daemon_ends_well_when_it_is_stopped(theirs: OtherSide, host: HostMaker) -> None:
    host("p-two", topics=TOPICS)
    stop = TaskStop.decode(fixture("task_stop-propeller"))
    daemon = TaskStart(stop.id, "sleeper", "p-two", "", {}, file=SLEEPER, daemon=True)
    give(theirs, daemon.encode())
    give(theirs, TaskStart("t-2", "add", "p-two", "", {}, file=ADD, inputs=("1", "1")).encode())
    assert result_of(theirs, "t-2") == "2"
    assert theirs.results(stop.id) == []

    theirs.publish(TOPICS.task_stop, fixture("task_stop-propeller"))

    result_of(theirs, stop.id)
    assert theirs.results(stop.id)[-1].error == ""


def test_a_function_that_is_stopped_leaves_its_worker(theirs: OtherSide, host: HostMaker) -> None:
    host("p-one", topics=TOPICS, workers=1)
    endless = TaskStart("t-1", "_start", "p-one", "", {}, file=ENDLESS, inputs=("x",))
    give(theirs, endless.encode())
    theirs.publish(TOPICS.task_stop, TaskStop("t-1").encode())
    assert result_of(theirs, "t-1") == "stopped by the manager"

    give(theirs, TaskStart("t-2", "add", "p-one", "", {}, file=ADD, inputs=("1", "1")).encode())

    assert result_of(theirs, "t-2") == "2"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (fixture("task_start-propeller_encrypted"), "asks for encrypted"),
        (b'{"id":"t-1","name":"x","image_url":"http://example/x.wasm"}', "cannot fetch"),
        (b'{"id":"t-1","name":"x","file":"AGFzbQEAAAA="}', "no function 'x'"),
    ],
)
def test_what_it_cannot_do_is_the_tasks_error(
    theirs: OtherSide, host: HostMaker, message: bytes, words: str
) -> None:
    host("p-one", topics=TOPICS)

    assert words in result_of(theirs, give(theirs, message))


def test_files_of_the_managers_machine_are_not_for_the_asking(
    registry: ImageRegistry,
    theirs: OtherSide,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "add.wasm"
    for name in (str(path), path.as_uri(), "fl/images/" + "0" * 64):
        theirs.publish(TOPICS.registry_requests, ImageRequest(name).encode())

    wait_until(lambda: caplog.text.count("not sent") == 3, PATIENCE_S, "all are refused")
    assert "may not name files" in caplog.text


def test_what_it_says_of_itself_has_propellers_names(theirs: OtherSide, host: HostMaker) -> None:
    host("p-one", topics=TOPICS)

    found = wait_until(lambda: theirs.discoveries("p-one"), PATIENCE_S, "it introduces itself")

    said = found[0].metadata
    assert {"os", "hostname", "cpu_arch", "proplet_version", "wasm_runtime"} <= set(said)
    assert int(said["total_memory_bytes"]) > 1 << 20
