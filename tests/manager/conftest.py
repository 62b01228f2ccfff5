"""A broker with a manager on it, and somebody who sees all it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from propeller_fl.config import ManagerConfig
from propeller_fl.link import LinkLimits, LinkLoop
from propeller_fl.manager import Manager, Proplet
from propeller_fl.store import LaunchStore
from propeller_fl.store._launches import LaunchPhase, SavedLaunch
from propeller_fl.wire import (
    Alive,
    Discovery,
    LaunchReport,
    Liveness,
    Phase,
    RoundStart,
    RoundStatus,
    Scalar,
    TaskStart,
    Topics,
)

from ..support.brokers import RunningBroker, broker, nats
from ..support.wait import wait_until
from .peers import LIMITS, Peer, new_link

__all__ = ["broker", "nats"]

WASM = b"\0asm\1\0\0\0"
MODEL_SHA256 = "5" * 64
DEADLINE_S = 1_800_000_000.5
TOPICS = Topics("m/tenant/c/channel")


class Stage:
    """``peer`` plays everybody; the manager can be stopped, and started again as another process
    would."""

    def __init__(self, running: RunningBroker, directory: Path) -> None:
        self.broker = running
        self.directory = directory
        self.now_s = 1000.0
        self.image = directory / "client.wasm"
        self.image.write_bytes(WASM)
        self.images: Mapping[str, str] = {"oci://example/client:latest": str(self.image)}
        self.loop = LinkLoop()
        self.loop.start()
        self.peer = Peer(
            self.loop,
            running.address,
            "peer",
            TOPICS.absolute("control/manager/#"),
            TOPICS.absolute("fl/images/+"),
            TOPICS.any_launch,
            TOPICS.forwarded_updates,
            TOPICS.absolute("fl/rounds/+/acks/+"),
        )

    def start_manager(
        self, limits: LinkLimits = LIMITS, *, launch: bool = True, mqtt5: bool = False
    ) -> Manager:
        self.link = new_link(self.loop, self.broker.address, "manager", limits, mqtt5=mqtt5)
        self.store = LaunchStore(self.directory / "launches.db")
        self.manager = Manager(
            self.link,
            TOPICS,
            ManagerConfig(liveness_timeout_s=30.0, images=self.images, launch=launch),
            self.store,
            clock=lambda: self.now_s,
        )
        self.manager.start()
        self.link.wait_connected(10)
        return self.manager

    def stop_manager(self) -> None:
        self.manager.stop()
        self.link.abort()
        self.store.close()

    def close(self) -> None:
        if hasattr(self, "manager"):
            self.stop_manager()
        self.loop.stop()

    # --- what others say

    def create(self, proplet_id: str, **metadata: str) -> None:
        self.peer.say(TOPICS.proplet_create, Discovery(proplet_id, "", metadata).encode())
        self.until_alive(proplet_id, True)

    def alive(self, proplet_id: str, status: Liveness = Liveness.ALIVE) -> None:
        self.peer.say(TOPICS.proplet_alive, Alive(proplet_id, status).encode())
        self.until_alive(proplet_id, status is Liveness.ALIVE)

    def until_alive(self, proplet_id: str, alive: bool) -> None:
        wait_until(
            lambda: any(p.proplet_id == proplet_id and p.alive is alive for p in self.fleet()),
            10,
            f"{proplet_id} is {'alive' if alive else 'offline'} for the manager",
        )

    def fleet(self) -> tuple[Proplet, ...]:
        return self.manager.fleet()

    def open_round(self, start: RoundStart) -> None:
        """Operator and coordinator, both."""
        self.peer.say(TOPICS.round_start, start.encode())
        self.status(start, Phase.OPEN)

    def status(self, start: RoundStart, phase: Phase) -> None:
        status = RoundStatus(
            start.round_id,
            phase,
            start.digest(),
            deadline_at_s=DEADLINE_S,
            model_sha256=MODEL_SHA256,
        )
        self.peer.say(TOPICS.status(start.round_id), status.encode(), retain=True)

    # --- what the manager says

    def tasks(self, count: int, topic: str = TOPICS.task_start) -> list[TaskStart]:
        return [TaskStart.decode(payload) for payload in self.peer.expect(topic, count)]

    def tasks_so_far(self) -> list[TaskStart]:
        return [
            TaskStart.decode(incoming.payload)
            for incoming in list(self.peer.received)
            if incoming.topic.startswith(TOPICS.task_start)
        ]

    def image_is_retained(self) -> None:
        """Whoever comes now gets it, though perhaps not the first time that they ask."""
        topic = TOPICS.image(hashlib.sha256(WASM).hexdigest())
        reader = Peer(self.loop, self.broker.address, "reader")

        def heard() -> list[bytes]:
            reader.ask_for(topic)
            return reader.heard(topic)

        assert set(wait_until(heard, 10, "the image is on the broker")) == {WASM}

    def report(self, round_id: str, **wanted: object) -> LaunchReport:
        """The first report whose fields are as wanted."""

        def matches(payload: bytes) -> bool:
            report = LaunchReport.decode(payload)
            return all(getattr(report, name) == value for name, value in wanted.items())

        return LaunchReport.decode(self.peer.expect_like(TOPICS.launch(round_id), matches))

    def saved(self, round_id: str) -> SavedLaunch | None:
        """What another process would find in the store."""
        store = LaunchStore(self.directory / "launches.db")
        try:
            return store.find(round_id)
        finally:
            store.close()

    def until_saved(self, round_id: str, **states: str) -> None:
        """Wait until the rows of a round's tasks say so, by proplet id."""

        def holds() -> bool:
            saved = self.saved(round_id)
            rows = {task.proplet_id: task.state for task in saved.tasks} if saved else {}
            return all(rows.get(name.replace("_", "-")) == state for name, state in states.items())

        wait_until(holds, 10, f"the tasks of {round_id} are saved as {states}")

    def until_closed(self, round_id: str) -> None:
        def closed() -> bool:
            saved = self.saved(round_id)
            return saved is not None and saved.phase is LaunchPhase.CLOSED

        wait_until(closed, 10, f"{round_id} is saved as closed")

    def settle(self) -> None:
        """Give the manager something to do after all that was said before, and wait for that."""
        self.create(f"settle-{len(self.fleet())}")


@pytest.fixture
def stage(nats: RunningBroker, tmp_path: Path) -> Iterator[Stage]:
    """On the embedded broker."""
    yield from _stage(nats, tmp_path)


@pytest.fixture
def any_stage(broker: RunningBroker, tmp_path: Path) -> Iterator[Stage]:
    """On each broker in turn."""
    yield from _stage(broker, tmp_path)


def _stage(running: RunningBroker, directory: Path) -> Iterator[Stage]:
    made = Stage(running, directory)
    try:
        yield made
    finally:
        made.close()


def round_start(
    round_id: str = "r-1",
    participants: tuple[str, ...] = ("p-1",),
    hyperparams: Mapping[str, Scalar] | None = None,
    image: str = "oci://example/client:latest",
    image_sha256: str = "",
) -> RoundStart:
    return RoundStart(
        round_id=round_id,
        model_uri="fl/models/global_model_v0",
        task_wasm_image=image,
        participants=participants,
        hyperparams={"epochs": 1, "lr": 0.5} if hyperparams is None else hyperparams,
        k_of_n=1,
        timeout_s=60.0,
        image_sha256=image_sha256,
    )
