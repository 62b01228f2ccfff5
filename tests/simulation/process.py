"""The coordinator's process: the real engine on the real store, and all that a crash takes away.

A process may end, and its store may fail, at any *point*: before every statement, after every
commit, before everything it says and before every acknowledgement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from propeller_fl.config import CoordinatorConfig
from propeller_fl.coordinator import Ack, Engine, Outgoing, Publish, Subscribe, Tell
from propeller_fl.errors import StoreError
from propeller_fl.link import Incoming
from propeller_fl.store import RoundStore
from propeller_fl.wire import Topics
from tests.simulation.broker import Broker, Uplink
from tests.simulation.ledger import Ledger
from tests.simulation.world import Crash, World

_RETRY_STORE_S = 1.0
_IDLE_S = 1.0
_POINTS = 25  # a turn has about as many


@dataclass(frozen=True, slots=True)
class Subject:
    """What is put to the test."""

    engine: type[Engine] = Engine
    store: type[RoundStore] = RoundStore


class Points:
    """Counts down to the one at which something goes wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._crash_in = self._fail_in = -1

    def arm(self) -> None:
        """Decide what will happen in this turn."""
        world, weather = self._world, self._world.weather
        rng = world.rng
        self._crash_in = rng.randint(1, _POINTS) if world.happens(weather.crash) else -1
        self._fail_in = rng.randint(1, _POINTS) if world.happens(weather.store_failure) else -1

    def disarm(self) -> None:
        self._crash_in = self._fail_in = -1

    def crash_point(self, name: str, *values: object) -> None:
        if self._crash_in >= 0:
            self._crash_in -= 1
            if not self._crash_in:
                self._world.note("the coordinator dies before: " + name, *values)
                raise Crash(name)

    def store_fails(self) -> bool:
        """Whether this statement is the one. Once it has failed, so do those after it."""
        if self._fail_in > 1:
            self._fail_in -= 1
        return self._fail_in in (0, 1)

    def undone(self) -> bool:
        """Whether a failure takes its transaction with it."""
        return self._world.rng.random() < 0.5


class Disk(sqlite3.Connection):
    """The database, which outlives the process. ``points`` and ``committed`` are set before use."""

    points: Points
    committed: Callable[[], None]
    _changes = 0

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self.points.crash_point("%s", sql)
        if self.points.store_fails():
            if self.in_transaction and self.points.undone():  # SQLite does so for some errors
                self.rollback()
            raise sqlite3.OperationalError("database or disk is full")
        cursor = super().execute(sql, parameters)
        if sql == "COMMIT":
            if self.total_changes != self._changes:
                self._changes = self.total_changes
                self.committed()
            self.points.crash_point("(after COMMIT)")
        return cursor

    def close(self) -> None:
        """What a process does that cannot go on. The disk is still there for the next one."""
        self.rollback()

    def look(self, sql: str) -> list[Any]:
        """Read without being in anybody's way."""
        return super().execute(sql).fetchall()


class CoordinatorProcess:
    """What the thread around the engine does, one turn at a time."""

    def __init__(
        self,
        world: World,
        broker: Broker,
        disk: Disk,
        ledger: Ledger,
        config: CoordinatorConfig,
        subject: Subject,
    ) -> None:
        self.up = False
        self.crashes = 0
        self._clock_is_ahead_s = 0.0
        self._world = world
        self._broker = broker
        self._disk = disk
        self._ledger = ledger
        self._config = config
        self._subject = subject
        self._points = disk.points
        self._uplink = Uplink(world, broker)
        self._life = 0
        self._connected = False

    def clock_s(self) -> float:
        """The time as its machine has it: it may be set at a restart, forwards or back."""
        return self._world.now_s + self._clock_is_ahead_s

    @property
    def idle(self) -> bool:
        """Nothing is in hand, and nothing will happen unless a message comes."""
        return (
            self.up
            and self._connected
            and self._turn_at_s == float("inf")
            and self._uplink.idle
            and self._engine.due_in_s(self.clock_s()) == float("inf")
        )

    def start(self) -> None:
        self._life += 1
        self._inbox: list[Incoming] = []
        self._batch: list[Incoming] = []
        self._delivered: list[int] = []
        self._published = 0
        self._turn_at_s = float("inf")
        if self._world.happens(self._world.weather.clock_set):
            self._clock_is_ahead_s = self._world.rng.uniform(-10.0, 10.0)
        self._points.arm()
        try:
            store = self._subject.store(self._disk)
            self._engine = self._subject.engine(Topics(), self._config, store)
            self._engine.resume(self.clock_s())
        except (Crash, StoreError, sqlite3.Error):
            self._crash()
            return
        self._world.note("the coordinator is up")
        self.up = True
        self._connect(self._life)
        self._turn_in(0.0)

    def _connect(self, life: int) -> None:
        if life == self._life:
            self._connected = True
            self._uplink.connect()
            self._broker.session.connect(self)
            self._engine.broker_returned()
            self._turn_in(0.0)

    def _disconnect(self, *, process_lives: bool) -> None:
        self._connected = False
        self._uplink.cut(process_lives=process_lives)
        self._broker.session.disconnect()
        if self._world.happens(self._world.weather.amnesia):
            self._world.note("the broker forgets what it retained for the coordinator")
            self._broker.forget("fl/rounds/")

    def receive(self, incoming: Incoming) -> None:
        self._inbox.append(incoming)
        self._turn_in(0.0 if self._world.rng.random() < 0.7 else 0.05)

    def _turn_in(self, delay_s: float) -> None:
        """Have a turn by then."""
        at_s = self._world.now_s + max(delay_s, 0.0)
        if at_s < self._turn_at_s:
            self._turn_at_s = at_s
            life = self._life
            self._world.at(max(delay_s, 0.0), lambda: self._turn(life, at_s))

    def _turn(self, life: int, at_s: float) -> None:
        if life != self._life or at_s != self._turn_at_s:
            return  # of an earlier life, or another one came first
        self._turn_at_s = float("inf")
        self._points.arm()
        try:
            next_in_s = self._serve()
        except Crash:
            self._crash()
            return
        finally:
            self._points.disarm()
        if self._connected and self._world.happens(self._world.weather.disconnect):
            self._world.note("the coordinator's connection breaks")
            self._disconnect(process_lives=True)
            self._world.at(self._world.rng.random() * 3.0, partial(self._connect, life))
        if next_in_s != float("inf"):
            self._turn_in(next_in_s)

    def _serve(self) -> float:
        """As :meth:`Coordinator._serve` does; returns when to be back."""
        engine, now_s = self._engine, self.clock_s()
        if not self._batch:
            size = self._world.rng.randint(1, 8)
            self._batch, self._inbox = self._inbox[:size], self._inbox[size:]
        try:
            for owed_id in self._delivered:
                engine.delivered(owed_id)
            self._delivered.clear()
            self._note_batch()
            self._carry_out(engine.handle(self._batch, now_s))
            self._batch = []
            engine.aggregate_due(now_s)
            self._carry_out(engine.take_statuses(now_s))
            for owed in engine.owed(self._published):
                self._points.crash_point("owed on %s", owed.topic)
                self._ledger.said(owed.topic, owed.payload)
                self._world.note("owed: %s %.200r", owed.topic, owed.payload)
                self._uplink.publish(
                    owed.topic, owed.payload, owed.retain, self._when_taken(owed.id)
                )
                self._published = owed.id
        except StoreError as err:
            self._world.note("the store failed: %s", err)
            return _RETRY_STORE_S
        return 0.0 if self._inbox else engine.due_in_s(now_s)

    def _note_batch(self) -> None:
        for incoming in self._batch:
            flag = " again" if incoming.duplicate else " retained" if incoming.retained else ""
            self._world.note("handles%s: %s %.200r", flag, incoming.topic, incoming.payload)

    def _carry_out(self, outgoing: list[Outgoing]) -> None:
        for one in outgoing:
            match one:
                case Ack(incoming):
                    self._points.crash_point("acknowledging %s", incoming.topic)
                    self._ledger.done_with(incoming.topic)
                    incoming.ack()
                case Publish(topic, payload, retain):
                    self._points.crash_point("saying %s %.200r", topic, payload)
                    self._world.note("says: %s %.200r", topic, payload)
                    self._ledger.said(topic, payload)
                    self._uplink.publish(topic, payload, retain)
                case Tell(topic, payload):
                    self._points.crash_point("telling %s %.200r", topic, payload)
                    self._world.note("tells: %s %.200r", topic, payload)
                    self._ledger.said(topic, payload)
                    self._uplink.tell(topic, payload)
                case Subscribe(topic):
                    self._points.crash_point("subscribing to %s", topic)
                    if self._connected:
                        self._broker.session.send_retained(topic)

    def _when_taken(self, owed_id: int) -> Callable[[], None]:
        life = self._life

        def taken() -> None:
            if life == self._life:
                self._delivered.append(owed_id)
                self._turn_in(_IDLE_S)

        return taken

    def _crash(self) -> None:
        self._points.disarm()
        self.crashes += 1
        self.up = False
        self._life += 1
        if self._disk.in_transaction:
            self._disk.rollback()
        self._disconnect(process_lives=False)
        rng = self._world.rng
        down_s = rng.random() * (10.0 if rng.random() < 0.2 else 0.5)
        self._world.at(down_s, self.start)
