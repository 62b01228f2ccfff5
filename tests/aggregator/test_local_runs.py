"""What comes of a local round, on a real broker; coordinator and devices are played by the test, so
that a round ends when it should, and not when a clock says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from propeller_fl.aggregator import Devices, LocalRuns
from propeller_fl.config import AggregatorConfig
from propeller_fl.errors import RequestError
from propeller_fl.link import Link, LinkLoop
from propeller_fl.operator import Operator
from propeller_fl.proplet import Output, events
from propeller_fl.store import LocalRoundStore
from propeller_fl.wire import (
    Alive,
    FlSpec,
    Outcome,
    Phase,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskStart,
    Topics,
    Update,
)
from tests.support.brokers import RunningBroker, embedded_broker
from tests.support.peers import Peer, peer_at
from tests.support.wait import wait_until

MODEL = b'{"w":[0.0,0.0],"version":7}'
MADE = b'{"w":[0.5,-2.0],"version":1}'
MADE_URI = "fl/models/global_model_v1"
OPENED_S = 1_800_000_000.0  # 2027-01-15T08:00:00Z
LONG_S = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with embedded_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Stage:
    """An aggregator's local side, with a topic prefix of its own."""

    def __init__(self, broker: RunningBroker, peer: Peer, directory: Path, prefix: str) -> None:
        self.topics = Topics(prefix)
        self.peer = peer
        self._broker = broker
        self._directory = directory
        self.about = FlSpec("r-1", "fl/models/global_model_v7", format="cbor", strategy="fedavg")
        topics = self.topics
        peer.subscribe(topics.round_start, topics.any_model, topics.task_stop_of("+"))

    @contextmanager
    def runs(self, *, devices: int = 2, **settings: Any) -> Iterator[LocalRuns]:
        """As a process has it; again, as after a crash."""
        config = AggregatorConfig(**{"gather_s": 0.2, "devices": devices} | settings)
        address, store = self._broker.address, LocalRoundStore(self._directory / "rounds.db")
        with LinkLoop(name="stage") as loop:
            link = Link(loop, address, f"aggregator-{self.topics.prefix}", clean_session=True)
            ours = Devices(link, self.topics, config, liveness_timeout_s=LONG_S)
            ours.start()
            link.wait_connected(LONG_S)
            for number in range(devices):
                alive = Alive(f"dev-{number}")
                self.peer.publish(self.topics.proplet_alive_of(alive.proplet_id), alive.encode())
            wait_until(lambda: len(ours.alive()) == devices, LONG_S, "all devices are alive")
            made = LocalRuns(
                config, ours, store,
                lambda: Operator(address, self.topics, timeout_s=LONG_S),
                self._directory / "images", lambda: None,
            )  # fmt: skip
            try:
                yield made
            finally:
                made.close()
                link.close(1.0)
                store.close()

    def give(self, runs: LocalRuns) -> Future[Output]:
        env = {"ROUND_ID": self.about.round_id, "MODEL_URI": self.about.model_uri}
        start = TaskStart("r-1.agg", "r-1", "agg", "fl/images/x", env, fl=self.about)
        return runs.run("agg", events.Run(start, b"\0asm", MODEL))

    def asked(self, *, after: RoundStart | None = None) -> RoundStart:
        """The first round that was asked for, or the first one other than ``after``."""

        def starts() -> list[RoundStart]:
            heard = self.peer.heard(self.topics.round_start)
            return [start for start in map(RoundStart.decode, heard) if start != after]

        return wait_until(starts, LONG_S, "a round is asked for")[0]

    def show(self, start: RoundStart, phase: Phase, model: bytes = MODEL) -> None:
        status = RoundStatus(
            start.round_id, phase, start.digest(), model_sha256=hashlib.sha256(model).hexdigest(),
            deadline_at_s=OPENED_S + start.timeout_s,
        )  # fmt: skip
        self.peer.publish(self.topics.status(start.round_id), status.encode(), retain=True)

    def end(self, start: RoundStart, outcome: Outcome, **changes: Any) -> None:
        """Say how it ended, as the coordinator does."""
        self.peer.publish(self.topics.absolute(MADE_URI), MADE, retain=True)
        ended: dict[str, Any] = {
            "round_id": start.round_id, "status": outcome, "model_version": 1,
            "model_topic": MADE_URI, "num_updates": 2, "total_samples": 30,
            "completed_at": "2027-01-15T08:00:30Z",
            "sha256": hashlib.sha256(MADE).hexdigest(), "metrics": {"loss": 0.5},
        } | changes  # fmt: skip
        complete = RoundComplete(**ended)
        self.peer.publish(self.topics.complete(start.round_id), complete.encode(), retain=True)
        self.show(start, Phase.FAILED if outcome is Outcome.FAILED else Phase.COMPLETE)


@pytest.fixture
def stage(broker: RunningBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with peer_at(broker.address) as peer:
        yield Stage(broker, peer, tmp_path, f"t{abs(hash(request.node.nodeid))}")


def test_those_who_answer_in_time_are_those_who_count(stage: Stage) -> None:
    with stage.runs(devices=3) as runs:
        answer = stage.give(runs)
        start = stage.asked()
        assert start.participants == ("dev-0", "dev-1", "dev-2")
        stage.show(start, Phase.OPEN)
        stage.end(start, Outcome.TIMEOUT, num_updates=2, total_samples=30, missing=("dev-1",))
        update = Update.decode(answer.result(LONG_S).payload)
    assert (update.num_samples, update.metrics) == (30, {"loss": 0.5})
    assert update.tensors["w"].tolist() == [0.5, -2.0]
    [offered] = stage.peer.heard(stage.topics.absolute(start.model_uri))
    assert offered == MODEL


def test_with_fewer_answers_than_must_be_nothing_is_sent(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        start = stage.asked()
        stage.show(start, Phase.OPEN)
        stage.end(start, Outcome.FAILED, detail="1 of at least 2 updates", num_updates=1)
        with pytest.raises(RequestError, match="local round r-1 failed: 1 of at least 2 updates"):
            answer.result(LONG_S)


def test_with_fewer_devices_than_must_answer_none_is_asked(stage: Stage) -> None:
    with (
        stage.runs(devices=1, min_local=2) as runs,
        pytest.raises(RequestError, match="1 devices are alive here"),
    ):
        stage.give(runs).result(LONG_S)
    assert stage.peer.heard(stage.topics.round_start) == []


def test_a_refused_round_is_the_end_of_the_task(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        stage.show(stage.asked(), Phase.REFUSED)
        with pytest.raises(RequestError, match="round r-1 is refused"):
            answer.result(LONG_S)


def test_a_task_that_comes_again_after_a_crash_is_done_by_the_same_round(stage: Stage) -> None:
    with stage.runs() as runs:
        stage.give(runs)
        first = stage.asked()
        stage.show(first, Phase.OPEN)
    with stage.runs(devices=3) as runs:  # one more has come
        answer = stage.give(runs)
        stage.end(first, Outcome.COMPLETE)
        payload = answer.result(LONG_S).payload
        assert stage.give(runs).result(LONG_S).payload == payload
    with stage.runs() as runs:
        assert stage.give(runs).result(LONG_S).payload == payload
    assert len(set(stage.peer.heard(stage.topics.round_start))) == 1


def test_another_task_under_the_same_id_never_gets_the_answer_of_the_first(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        first = stage.asked()
        stage.end(first, Outcome.COMPLETE)
        answer.result(LONG_S)
        stage.about = FlSpec("r-1", "fl/models/global_model_v7", strategy="fedavg", deadline=9.0)
        again = stage.give(runs)
        second = stage.asked(after=first)
        assert second.round_id.startswith("r-1-")
        stage.end(second, Outcome.COMPLETE, total_samples=31)
        assert again.result(LONG_S).num_samples == 31


def test_the_end_of_a_round_of_long_ago_is_not_taken_for_this_ones(stage: Stage) -> None:
    old = RoundComplete("r-1", Outcome.COMPLETE, 1, "fl/models/old", 9, 99, "2027-01-15T07:00:00Z")
    stage.peer.publish(stage.topics.complete("r-1"), old.encode(), retain=True)
    with stage.runs() as runs:
        answer = stage.give(runs)
        start = stage.asked()
        stage.show(start, Phase.OPEN)
        stage.end(start, Outcome.COMPLETE)
        assert answer.result(LONG_S).num_samples == 30


def test_a_round_on_another_model_than_upstreams_is_given_up(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        stage.show(stage.asked(), Phase.OPEN, model=b"another")
        with pytest.raises(RequestError, match="was opened on the model with the digest"):
            answer.result(LONG_S)


def test_another_model_in_the_place_of_the_mean_is_not_sent(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        stage.end(stage.asked(), Outcome.COMPLETE, sha256="0" * 64)
        with pytest.raises(RequestError, match=f"{MADE_URI} has the digest"):
            answer.result(LONG_S)


def test_devices_are_told_when_nobody_wants_it_any_more(stage: Stage) -> None:
    with stage.runs() as runs:
        answer = stage.give(runs)
        start = stage.asked()
        stage.show(start, Phase.OPEN)
        runs.stop("agg", "r-1.agg")
        with pytest.raises(RequestError, match="round r-1 has ended upstream"):
            answer.result(LONG_S)
    for name in start.participants:
        told = stage.peer.wait_for(stage.topics.task_stop_of(name), timeout_s=LONG_S)
        assert told == {"id": f"r-1.{name}", "proplet_id": name}


def test_signatures_of_the_module_go_with_it(stage: Stage, tmp_path: Path) -> None:
    image = hashlib.sha256(b"\0asm").hexdigest()
    env = {"ROUND_ID": "r-1", "MODEL_URI": "fl/models/global_model_v7"}
    signed = TaskStart(
        "r-1.agg", "r-1", "agg", "x", env, fl=stage.about,
        image_signatures={"0123456789abcdef": bytes(64)},
    )  # fmt: skip
    with stage.runs() as runs:
        runs.run("agg", events.Run(signed, b"\0asm", MODEL))
        start = stage.asked()
    assert Path(start.task_wasm_image).read_bytes() == b"\0asm"
    assert start.image_sha256 == image
    signatures = json.loads(Path(f"{start.task_wasm_image}.sig").read_bytes())
    assert signatures["image_sha256"] == image
    assert list(signatures["signatures"]) == ["0123456789abcdef"]
