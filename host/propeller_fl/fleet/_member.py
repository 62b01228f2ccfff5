"""One simulated proplet's wires: messages to events of its machine, and effects to messages.

On the link loop's thread only.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal

import propeller_fl
from propeller_fl.errors import LinkError, MessageError
from propeller_fl.fleet._ledger import Ledger
from propeller_fl.fleet._plan import FleetPlan
from propeller_fl.fleet._proplet import Lose, SimulatedEffect, SimulatedProplet, Train
from propeller_fl.fleet._training import Trainer
from propeller_fl.link import Delivery, Incoming, Link, LinkLoop
from propeller_fl.proplet import Board, Output, events
from propeller_fl.wire import (
    AckStatus,
    Alive,
    Discovery,
    Liveness,
    RoundComplete,
    TaskStart,
    TaskStop,
    Topics,
    UpdateAck,
)

_log = logging.getLogger(__name__)

_METADATA: Final = {
    "runtime": "simulated",
    "version": propeller_fl.__version__,
    "own_start_topic": "true",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all proplets of a process share."""

    plan: FleetPlan
    loop: LinkLoop
    board: Board
    topics: Topics
    trainer: Trainer
    ledger: Ledger


class Member:
    """Proplet ``index`` of the plan, on ``link``, which has not been started."""

    def __init__(self, around: Surroundings, index: int, link: Link) -> None:
        plan, topics = around.plan, around.topics
        self.index = index
        self.machine = SimulatedProplet(plan.ids[index], plan.resend_after_s, plan.loss, plan.seed)
        self._around = around
        self._id = plan.ids[index]
        self._link = link
        self._events: deque[events.Event] = deque()
        self._handling = False
        self._followed: set[events.Want] = set()
        self._introduced = False
        qos: Literal[0, 1] = 1 if plan.qos else 0
        link.subscribe(topics.task_start_of(self._id), self._on_start, qos=qos)
        link.subscribe(topics.task_stop_of(self._id), self._on_stop, qos=qos)
        link.subscribe(topics.acks_of(self._id), self._on_ack, qos=qos)

    def came_up(self) -> None:
        """Its session is there, maybe again."""
        discovery = Discovery(self._id, "fleet", dict(_METADATA))
        delivery = self._link.publish(self._around.topics.proplet_create, discovery.encode())
        delivery.add_done_callback(self._on_introduced)
        self._handle(events.Reconnected())

    # --- messages

    def _on_introduced(self, delivery: Delivery) -> None:
        if delivery.error is None:
            self._around.ledger.note_introduced(first=not self._introduced)
            if not self._introduced:
                self._introduced = True
                period_s = self._around.plan.heartbeat_s
                # Spread over the period: a fleet does not beat as one.
                self._around.loop.call_later(period_s * (0.5 + random.random() / 2), self._beat)

    def _beat(self) -> None:
        with contextlib.suppress(LinkError):  # closed
            if self._link.connected:
                alive = Alive(self._id, Liveness.ALIVE, "fleet")
                self._link.publish(self._around.topics.proplet_alive, alive.encode())
            self._around.loop.call_later(self._around.plan.heartbeat_s, self._beat)

    def _on_start(self, incoming: Incoming) -> None:
        self._around.ledger.traffic.down_bytes += len(incoming.payload)
        self._handle(events.Given(TaskStart.decode(incoming.payload)))
        incoming.ack()

    def _on_stop(self, incoming: Incoming) -> None:
        self._around.ledger.traffic.down_bytes += len(incoming.payload)
        self._handle(events.Stopped(TaskStop.decode(incoming.payload).id))
        incoming.ack()

    def _on_ack(self, incoming: Incoming) -> None:
        ack = UpdateAck.decode(incoming.payload)
        ledger = self._around.ledger
        ledger.traffic.down_bytes += len(incoming.payload)
        if ack.status is AckStatus.ACCEPTED:
            ledger.note_accepted(self.index)
        self._handle(events.Answered(ack))
        incoming.ack()

    # --- events and effects

    def _handle(self, event: events.Event) -> None:
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                for effect in self.machine.handle(self._events.popleft()):
                    self._carry_out(effect)
                self._follow()
        except LinkError as error:
            _log.debug("%s: %s", self._id, error)  # closed
        finally:
            self._handling = False

    def _carry_out(self, effect: SimulatedEffect) -> None:
        later = self._around.loop.call_later
        match effect:
            case Train(_, after_s):
                if after_s:
                    later(after_s, functools.partial(self._train, effect))
                else:
                    self._train(effect)
            case Lose(task_id):
                self._events.append(events.Taken(task_id, random.random()))
            case events.SendUpdate():
                self._send(effect)
            case events.Wait(task_id, sends, delay_s):
                later(delay_s, lambda: self._handle(events.Waited(task_id, sends)))
            case events.Report(result):
                payload = result.encode()
                self._around.ledger.traffic.up_bytes += len(payload)
                self._link.publish(self._around.topics.proplet_results, payload)

    def _send(self, effect: events.SendUpdate) -> None:
        traffic = self._around.ledger.traffic
        traffic.updates_sent += 1
        traffic.up_bytes += len(effect.payload)
        topic = self._around.topics.update(effect.round_id, self._id)
        delivery = self._link.publish(topic, effect.payload)
        delivery.add_done_callback(functools.partial(self._on_delivered, effect.task_id))

    def _on_delivered(self, task_id: str, delivery: Delivery) -> None:
        if delivery.error is None:
            self._handle(events.Taken(task_id, random.random()))

    def _train(self, train: Train) -> None:
        start, model = train.run.start, train.run.model
        if not isinstance(model, bytes):
            self._handle(events.Failed(start.id, "a simulated proplet trains no model in parts"))
        elif self._around.plan.is_wasm[self.index]:
            run = self._around.trainer.really(self.index, start, model)
            run.add_done_callback(functools.partial(self._on_ran, start.id))
        else:
            output = self._around.trainer.recorded(self.index, start, model)
            self._handle(events.Ran(start.id, output))

    def _on_ran(self, task_id: str, run: Future[Output]) -> None:
        """On a thread of the pool."""
        error = run.exception()
        event = (
            events.Ran(task_id, run.result())
            if error is None
            else events.Failed(task_id, str(error))
        )
        with contextlib.suppress(LinkError):  # stopped meanwhile
            self._around.loop.call_soon(functools.partial(self._really_ran, event))

    def _really_ran(self, event: events.Ran | events.Failed) -> None:
        if isinstance(event, events.Ran):
            self._around.ledger.traffic.real[self.index] = event.output.payload
        self._handle(event)

    # --- what is retained: read once for all, on the board

    def _follow(self) -> None:
        wants = self.machine.wants
        if wants == self._followed:
            return
        before = bool(self._followed)
        board = self._around.board
        gone, new = self._followed - wants, wants - self._followed
        self._followed = set(wants)
        for want in gone:
            board.unfollow(self._topic_of(want), self._id, keep=want.kind != "round")
        for want in new:
            board.follow(self._topic_of(want), self._id, self._reader(want))
        if before != bool(wants):
            self._around.ledger.note_busy(1 if wants else -1)

    def _reader(self, want: events.Want) -> Callable[[bytes], None]:
        match want.kind:
            case "image":
                return lambda payload: self._handle(events.ImageArrived(want.name, payload))
            case "model":
                return lambda payload: self._handle(events.ModelArrived(want.name, payload))
            case _:
                return functools.partial(self._on_end, want.name)

    def _on_end(self, round_id: str, payload: bytes) -> None:
        with contextlib.suppress(MessageError):
            self._handle(events.RoundClosed(round_id, RoundComplete.decode(payload).status))

    def _topic_of(self, want: events.Want) -> str:
        topics = self._around.topics
        return topics.complete(want.name) if want.kind == "round" else topics.absolute(want.name)
