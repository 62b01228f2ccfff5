"""Updates on their way from proplets to the coordinator, byte for byte.

The topic says who sent an update and for which round, and a broker's access rules protect it; the
forwarded copy has lost it. So a payload that does not name the same round and proplet is refused;
and where MQTT 5 is spoken, the copy says beside its payload who the topic's proplet was.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import queue
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from propeller_fl.errors import LinkError, MessageError
from propeller_fl.link import Delivery, Incoming, Link
from propeller_fl.observe import UpdateRefused, Watcher, nobody
from propeller_fl.wire import (
    SENDER_PROPERTY,
    AckStatus,
    Reason,
    Topics,
    UpdateAck,
    UpdateSender,
)

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.05  # between looks at a link whose queue is full

_Key = tuple[str, bytes]  # topic and payload


@dataclass(frozen=True, slots=True)
class ForwardCounts:
    """Since the start: updates the broker has taken from us, and refused ones by reason."""

    forwarded: int
    refused: Mapping[str, int]


class Forwarder:
    """Takes updates and acknowledges each only once the broker has the forwarded copy, or the
    refusal. What it holds is bounded by what the broker leaves unacknowledged."""

    def __init__(self, link: Link, topics: Topics, watch: Watcher = nobody) -> None:
        self._link = link
        self._watch = watch
        self._topics = topics
        self._work: queue.SimpleQueue[_Key | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the next three
        self._in_hand: dict[_Key, list[Incoming]] = {}
        self._forwarded = 0
        self._refused: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manager-forward", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End. What is in hand stays with the broker."""
        self._stopping.set()
        self._work.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def take(self, incoming: Incoming) -> None:
        """For the link: an update has arrived."""
        key = incoming.topic, incoming.payload
        with self._lock:
            held = self._in_hand.get(key)
            if held is not None:  # the sender or the broker became impatient: one copy is enough
                incoming.payload = held[0].payload
                held.append(incoming)
                return
            self._in_hand[key] = [incoming]
        self._work.put(key)

    @property
    def queued(self) -> int:
        """Updates that wait to be handed to the link. Any thread."""
        return self._work.qsize()

    def counts(self) -> ForwardCounts:
        with self._lock:
            return ForwardCounts(self._forwarded, dict(self._refused))

    def _run(self) -> None:
        while (key := self._work.get()) is not None and not self._stopping.is_set():
            try:
                self._handle(key)
            except Exception:
                _log.exception("an update on %s could not be handled, and is skipped", key[0])
                self._settle(key)

    def _handle(self, key: _Key) -> None:
        topic, payload = key
        try:
            ids = self._topics.parse_update(topic)
        except MessageError as err:
            self._note_refusal(err, {})
            self._settle(key)
            return
        if ids is None:
            raise ValueError(f"{topic!r} is not the topic of an update")
        try:
            check_sender(payload, *ids)
            sender = {SENDER_PROPERTY: ids[1]}
            self._publish(key, self._topics.forwarded_updates, payload, sender)
        except MessageError as err:
            self._refuse(key, *ids, err)

    def _refuse(self, key: _Key, round_id: str, proplet_id: str, err: MessageError) -> None:
        self._note_refusal(err, {"round_id": round_id, "proplet_id": proplet_id})
        ack = UpdateAck(
            round_id,
            proplet_id,
            AckStatus.REFUSED,
            hashlib.sha256(key[1]).hexdigest(),
            reason=str(err.reason),
            detail=str(err),
        )
        self._publish(key, self._topics.ack(round_id, proplet_id), ack.encode())

    def _note_refusal(self, err: MessageError, extra: dict[str, str]) -> None:
        _log.warning("update refused: %s: %s", err.reason, err, extra=extra)
        with self._lock:
            self._refused[str(err.reason)] += 1
        ids = extra.get("round_id", ""), extra.get("proplet_id", "")
        self._watch(UpdateRefused(*ids, str(err.reason)))

    def _publish(
        self, key: _Key, topic: str, payload: bytes, properties: Mapping[str, str] | None = None
    ) -> None:
        """Hand over to the link, however long it has no room. MessageError: no broker takes it."""
        held = False
        while True:
            try:
                delivery = self._link.publish(topic, payload, properties=properties)
            except LinkError as err:
                if not held:
                    _log.warning("updates wait: %s", err)
                held = True
                if self._stopping.wait(_RETRY_S):
                    return
            else:
                forwarded = topic == self._topics.forwarded_updates
                delivery.add_done_callback(functools.partial(self._published, key, forwarded))
                return

    def _published(self, key: _Key, forwarded: bool, delivery: Delivery) -> None:
        if delivery.error is not None:
            return  # the link was closed: the broker still has the update
        if forwarded:
            with self._lock:
                self._forwarded += 1
        self._settle(key)

    def _settle(self, key: _Key) -> None:
        with self._lock:
            held = self._in_hand.pop(key, [])
        for incoming in held:
            incoming.ack()


def check_sender(payload: bytes, round_id: str, proplet_id: str) -> None:
    """Raise :class:`MessageError` unless the update says the same as its topic."""
    sender = UpdateSender.decode(payload)
    if not sender.proplet_id:
        raise MessageError(
            Reason.MISSING_FIELD,
            "proplet_id is missing",
            field="proplet_id",
            hint="the module writes it when PROPLET_ID is in its environment",
        )
    for field, said, true in (
        ("round_id", sender.round_id, round_id),
        ("proplet_id", sender.proplet_id, proplet_id),
    ):
        if said != true:
            raise MessageError(
                Reason.IDENTITY,
                f"{field} is {said!r} in the update and {true!r} in its topic",
                field=field,
            )
