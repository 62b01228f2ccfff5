"""Who else takes part: manager, proplets and model server."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from functools import partial

from propeller_fl.errors import MessageError
from propeller_fl.manager import Fleet, Image
from propeller_fl.manager._effects import Effect as LaunchEffect
from propeller_fl.manager._effects import (
    FetchImage,
    PublishImage,
    SendStop,
    SendTask,
    ShowLastReport,
    ShowReport,
)
from propeller_fl.manager._launch import Launcher
from propeller_fl.proplet import Content, Output, Tasks, events
from propeller_fl.wire import (
    Alive,
    Discovery,
    LaunchReport,
    Mode,
    Model,
    RoundComplete,
    RoundStart,
    RoundStatus,
    TaskResult,
    TaskStart,
    TaskStop,
    UpdateAck,
    model_uri,
    model_version,
)
from tests.simulation.broker import Broker
from tests.simulation.world import Violation, World

IMAGE = Image(b"\0asm", hashlib.sha256(b"\0asm").hexdigest())
_BEAT_S = 4.0
_LOOK_S = 3.0


class Manager:
    """The real launcher. It forwards updates byte for byte, and never crashes here."""

    def __init__(self, world: World, broker: Broker, proplets: dict[str, Proplet]) -> None:
        self._world = world
        self._broker = broker
        self._proplets = proplets
        self._launcher = Launcher(Fleet(3 * _BEAT_S))
        self._closed: dict[str, str] = {}
        broker.listen("start", self._on_start)
        broker.listen("status", self._on_status)
        broker.listen("complete", self._on_complete)
        broker.listen("update", self._on_update)

    def create(self, discovery: Discovery) -> None:
        self._carry_out(self._launcher.proplet_created(discovery, self._world.now_s))

    def hear(self, alive: Alive) -> None:
        self._carry_out(self._launcher.proplet_heard(alive, self._world.now_s))

    def result(self, result: TaskResult) -> None:
        self._carry_out(self._launcher.result_arrived(result))

    def _on_start(self, topic: str, payload: bytes) -> None:
        try:
            start = RoundStart.decode(payload)
        except MessageError:
            return
        self._carry_out(self._launcher.started(start, self._closed.get(start.round_id, "")))

    def _on_status(self, topic: str, payload: bytes) -> None:
        if payload:
            status = RoundStatus.decode(payload)
            if status.phase.closed and status.start_sha256:
                self._closed.setdefault(status.round_id, status.start_sha256)
            self._carry_out(self._launcher.status_changed(status))

    def _on_complete(self, topic: str, payload: bytes) -> None:
        if payload:
            self._carry_out(self._launcher.completed(RoundComplete.decode(payload).round_id))

    def _on_update(self, topic: str, payload: bytes) -> None:
        self._broker.publish("fml/updates", payload)

    def _carry_out(self, effects: Iterable[LaunchEffect]) -> None:
        for effect in effects:
            match effect:
                case FetchImage(round_id):
                    self._carry_out(self._launcher.image_fetched(round_id, IMAGE))
                case PublishImage(round_id):
                    now_s = self._world.now_s
                    self._carry_out(self._launcher.image_published(round_id, now_s))
                case SendTask(round_id, proplet_id):
                    task = self._launcher.task(round_id, proplet_id)
                    proplet = self._proplets.get(proplet_id)
                    if task is not None and proplet is not None:
                        self._broker.carry(partial(proplet.given, task[0]))
                        self._carry_out(self._launcher.task_sent(round_id, proplet_id))
                case SendStop(stop):
                    proplet = self._proplets.get(stop.proplet_id)
                    if proplet is not None:
                        self._broker.carry(partial(proplet.stopped, stop))
                case ShowReport(round_id):
                    self._show(self._launcher.report(round_id))
                case ShowLastReport(report):
                    self._show(report)
                case _:
                    pass  # rows for a store: this manager never dies

    def _show(self, report: LaunchReport | None) -> None:
        if report is not None:
            topic = f"fl/rounds/{report.round_id}/launch"
            self._broker.publish(topic, report.encode(), retain=True)


class Proplet:
    """The real machine of tasks around a module that is a hash function.

    A ``fickle`` one gives another update each time it runs, though a module should not.
    """

    def __init__(
        self, world: World, broker: Broker, name: str, resend_after_s: float, *, fickle: bool
    ) -> None:
        self.name = name
        self.manager: Manager
        self._world = world
        self._broker = broker
        self._resend_after_s = resend_after_s
        self._fickle = fickle
        self._runs = 0
        self._life = 0
        self._tasks = Tasks(name, resend_after_s)
        self._looking: set[events.Want] = set()
        broker.listen("ack", self._on_ack, name)

    @property
    def idle(self) -> bool:
        return not self._tasks.wants

    def start(self) -> None:
        """Power on."""
        self._life += 1
        self._tasks = Tasks(self.name, self._resend_after_s)
        self._looking.clear()
        discovery = Discovery(self.name, metadata={"own_start_topic": "true"})
        self._broker.carry(lambda: self.manager.create(discovery))
        self._world.at(self._world.rng.random() * _BEAT_S, partial(self._beat, self._life))

    def given(self, start: TaskStart) -> None:
        self._handle(events.Given(start, self._world.now_s))

    def stopped(self, stop: TaskStop) -> None:
        self._handle(events.Stopped(stop.id))

    def _beat(self, life: int) -> None:
        if life != self._life:
            return
        if self._world.happens(self._world.weather.proplet_crash):
            self._world.note("%s loses power", self.name)
            self._life += 1
            self._world.at(self._world.rng.random() * 5.0, self.start)
            return
        self._broker.carry(lambda: self.manager.hear(Alive(self.name)))
        self._world.at(_BEAT_S, partial(self._beat, life))

    def _on_ack(self, topic: str, payload: bytes) -> None:
        self._handle(events.Answered(UpdateAck.decode(payload)))

    def _handle(self, event: events.Event) -> None:
        for effect in self._tasks.handle(event):
            match effect:
                case events.Run(start, _, model):
                    assert not isinstance(model, Content), "no model here is in parts"
                    output = Output(self._train(start, model or b""))
                    self._later(self._world.rng.random() * 2.0, events.Ran(start.id, output))
                case events.SendUpdate(task_id, round_id, payload):
                    self._world.note("%s sends its update of %s", self.name, round_id)
                    delay_s = self._world.delay_s()
                    topic = f"fl/rounds/{round_id}/updates/{self.name}"
                    self._world.at(delay_s, partial(self._broker.publish, topic, payload))
                    self._later(delay_s, events.Taken(task_id, self._world.rng.random()))
                case events.Wait(task_id, sends, delay_s):
                    self._later(delay_s, events.Waited(task_id, sends))
                case events.Expire(task_id, delay_s):
                    self._later(delay_s, events.Expired(task_id))
                case events.Report(result):
                    self._broker.carry(partial(self.manager.result, result))
                case _:
                    pass
        # in an order of its own, for that of a set is another in every process
        for want in sorted(
            self._tasks.wants - self._looking, key=lambda want: (want.kind, want.name)
        ):
            self._looking.add(want)
            self._world.at(self._world.delay_s(), partial(self._look, self._life, want))

    def _later(self, delay_s: float, event: events.Event) -> None:
        life = self._life
        self._world.at(delay_s, lambda: self._handle(event) if life == self._life else None)

    def _look(self, life: int, want: events.Want) -> None:
        """Read what is retained, now and from time to time, while it is wanted."""
        if life != self._life:
            return
        if want not in self._tasks.wants:
            self._looking.discard(want)
            return
        match want.kind:
            case "image":
                self._handle(events.ImageArrived(want.name, IMAGE.data))
            case "model" if model := self._broker.retained.get(want.name):
                self._handle(events.ModelArrived(want.name, model))
            case "round" if payload := self._broker.retained.get(f"fl/rounds/{want.name}/complete"):
                status = RoundComplete.decode(payload).status
                self._handle(events.RoundClosed(want.name, status))
        self._world.at(_LOOK_S, partial(self._look, life, want))

    def _train(self, start: TaskStart, model: bytes) -> bytes:
        """The same inputs always give the same update, unless it is fickle."""
        if start.fl is None or hashlib.sha256(model).hexdigest() != start.fl.model_sha256:
            raise Violation(f"{self.name} trains on another model than {start.id} is about")
        self._runs += 1
        inputs = [start.id.encode(), model, str(self._runs).encode() if self._fickle else b""]
        numbers = struct.unpack("<8I", hashlib.sha256(b"|".join(inputs)).digest())
        values = [number / 2.0**31 - 1.0 for number in numbers]
        trains = start.env["FL_MODE"] == Mode.TRAIN
        document = {
            "round_id": start.env["ROUND_ID"],
            "proplet_id": self.name,
            "base_model_uri": start.env["MODEL_URI"],
            "num_samples": 1 + numbers[7] % 1000,
            "metrics": {"loss": values[3]},
            "update": {"w": values[:2], "b": values[2]} if trains else {},
        }
        return json.dumps(document).encode()


class ModelServer:
    """Keeps what is published and retains it; it is told until it has heard."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker

    def take(self, payload: bytes) -> None:
        """A model reached the broker."""
        version = Model.decode(payload).version
        assert version is not None
        self._world.at(
            self._world.delay_s(),
            partial(self._broker.publish, model_uri(version), payload, retain=True),
        )

    def newest(self) -> int:
        """The newest version it retains."""
        versions = (model_version(topic) for topic in self._broker.retained)
        return max((v for v in versions if v is not None), default=0)
