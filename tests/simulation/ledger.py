"""What must be true, noted independently of the coordinator's own code.

It looks at the database after every commit and reads along everything that is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.simulation.broker import kind_of
from tests.simulation.world import Violation, World

Look = Callable[[str], list[Any]]

_CLOSED = ("complete", "failed")


@dataclass(slots=True)
class Known:
    """A round, as the database had it when it was last looked at."""

    start: dict[str, Any]
    digest: str
    opened_at_s: float
    seen_at_s: float  # when it first was there
    phase: str
    kept: dict[str, str] = field(default_factory=dict)  # digest of the update, by proplet
    overdue: bool = False  # its deadline had passed when it was no longer open
    record: Any = None  # of a closed one: every row there is
    ended: int = 0  # the number of rounds that had ended before the transaction that ended it
    complete: str = ""
    pruned: bool = False

    @property
    def closed(self) -> bool:
        return self.phase in _CLOSED


class Ledger:
    """Raises :class:`Violation` as soon as something is wrong."""

    def __init__(self, world: World, keep_rounds: int) -> None:
        self.clock_s: Callable[[], float]  # the coordinator's
        self._world = world
        self._keep_rounds = keep_rounds
        self.rounds: dict[str, Known] = {}
        self.models: dict[int, bytes] = {}  # those that rounds made, by version
        self._digests: dict[str, str] = {}  # of every model there ever was, by topic
        self._bodies: dict[str, tuple[bytes, bool]] = {}  # as they are now; whether a round's own
        self._velocities: dict[tuple[str, float, float], list[float]] = {}  # by topic, lr, momentum
        self.answered: set[tuple[str, str]] = set()  # starts, by round and digest
        self.acked: dict[tuple[str, str], str] = {}  # accepted updates, by round and proplet
        self._sent: dict[str, bytes] = {}  # updates on their way to the coordinator, by digest
        self._refusals: set[tuple[str, str, str]] = set()
        self._highest = -1
        self._ended = 0
        self._ended_before = 0  # … before the transaction that is looked at
        self._stops: set[str] = set()  # rounds that somebody has asked to stop
        self._never: set[str] = set()  # … and that were stopped before they were opened
        self._failed: dict[str, set[str]] = {}  # whose task has failed, by round
        self._arrived: dict[str, bytes] = {}  # completions and models that the broker has had

    def _claim(self, holds: bool, what: str, *values: object) -> None:
        if not holds:
            raise Violation(what % values)

    # --- the database

    def committed(self, look: Look) -> None:
        """A transaction has become durable."""
        updates: dict[str, list[Any]] = {}
        for row in look(
            "SELECT round_id, proplet_id, sha256, num_samples, vector FROM updates ORDER BY 1, 2"
        ):
            updates.setdefault(row[0], []).append(row[1:])
        refusals: dict[str, list[Any]] = {}
        for row in look("SELECT round_id, proplet_id, reason FROM refusals ORDER BY id"):
            refusals.setdefault(row[0], []).append(row[1:])
            self._refusals.add(row)
        made = self._look_at_models(look)
        self._ended_before = self._ended
        pruned = dict(look("SELECT round_id, start_sha256 FROM pruned_rounds"))
        present: set[str] = set()
        for row in look(
            "SELECT round_id, start, opened_at_s, phase, outcome, detail, complete FROM rounds"
        ):
            present.add(row[0])
            self._look_at_round(row, updates.get(row[0], []), refusals.get(row[0], []), made)
        for round_id, known in self.rounds.items():
            if round_id not in present or round_id in pruned:
                self._look_at_gone(known, pruned.get(round_id))
        for round_id in updates.keys() | refusals.keys():
            self._claim(round_id in present, "rows of no round: %s", round_id)

    def _look_at_models(self, look: Look) -> dict[str, tuple[int, bytes]]:
        """The models that rounds made, by round."""
        made: dict[str, tuple[int, bytes]] = {}
        highest = self._highest
        for uri, version, round_id, sha256, body in look(
            "SELECT uri, version, round_id, sha256, body FROM models WHERE version IS NOT NULL"
        ):
            self._digests[uri] = sha256
            self._bodies[uri] = body, round_id is not None
            highest = max(highest, version)
            if round_id is None:
                continue
            self._claim(round_id not in made, "two models of round %s", round_id)
            made[round_id] = version, body
            if version not in self.models:
                self._claim(
                    version == self._highest + 1,
                    "version %s follows %s",
                    version,
                    self._highest,
                )
                self.models[version] = body
            self._claim(self.models[version] == body, "model %s has changed", version)
        self._highest = highest
        return made

    def _look_at_round(
        self,
        row: Any,
        updates: list[Any],
        refusals: list[Any],
        made: dict[str, tuple[int, bytes]],
    ) -> None:
        round_id, start, opened_at_s, phase, outcome, _, complete = row
        known = self.rounds.get(round_id)
        if known is None:
            self._claim(round_id not in self._never, "round %s was stopped and is open", round_id)
            digest = hashlib.sha256(start.encode()).hexdigest()
            known = self.rounds[round_id] = Known(
                json.loads(start), digest, opened_at_s, self._world.now_s, "open"
            )
        self._claim(
            hashlib.sha256(start.encode()).hexdigest() == known.digest,
            "round %s is another one now",
            round_id,
        )
        self._claim(opened_at_s == known.opened_at_s, "the deadline of %s has moved", round_id)
        if known.pruned:
            return  # its rows are on their way out
        kept = {proplet_id: sha256 for proplet_id, sha256, _, _ in updates}
        self._claim(known.kept.items() <= kept.items(), "round %s has lost an update", round_id)
        record = row, updates, refusals
        if known.closed:
            self._claim(record == known.record, "closed round %s has changed", round_id)
            return
        for proplet_id, sha256, samples, vector in updates:
            if proplet_id not in known.kept:
                self._look_at_update(known, proplet_id, sha256, samples, vector)
        known.kept = kept
        if known.phase == "open" != phase:
            deadline_at_s = opened_at_s + known.start["timeout_s"]
            known.overdue = self.clock_s() >= deadline_at_s
        known.phase = phase
        if phase in _CLOSED:
            self._ended += 1
            known.record, known.ended, known.complete = record, self._ended_before, complete
            self._look_at_end(known, updates, outcome, made.get(round_id))
        else:
            self._claim(round_id not in made, "open round %s has a model", round_id)

    def _look_at_update(
        self, known: Known, proplet_id: str, sha256: str, samples: int, vector: bytes
    ) -> None:
        """What is kept is what was sent."""
        sent = json.loads(self._sent[sha256])
        update = sent["update"]
        values = [*update["w"], update["b"]] if update else []
        self._claim(
            (sent["round_id"], sent["proplet_id"], sent["num_samples"])
            == (known.start["round_id"], proplet_id, samples)
            and np.array(values, "<f4").tobytes() == vector,
            "the update of %s is not kept as it was sent",
            proplet_id,
        )

    def _look_at_end(
        self, known: Known, updates: list[Any], outcome: str, made: tuple[int, bytes] | None
    ) -> None:
        start, complete = known.start, json.loads(known.complete)
        round_id, mode = start["round_id"], start["mode"]
        stopped = complete["detail"].startswith("stopped by operator")
        self._claim(not stopped or round_id in self._stops, "nobody has stopped %s", round_id)
        lost = self._failed.get(round_id, set()) - known.kept.keys()
        possible = len(set(start["participants"]) - lost)
        in_vain = bool(lost) and len(updates) >= possible  # to wait any longer
        hopeless = known.overdue or possible < start["min_updates"]
        enough = {
            "complete": len(updates) >= start["k_of_n"],
            "timeout": (known.overdue or in_vain)
            and start["min_updates"] <= len(updates) < start["k_of_n"],
            "failed": stopped or (hopeless and len(updates) < start["min_updates"]),
        }
        self._claim(
            enough[outcome], "round %s is %s with %s updates", round_id, outcome, len(updates)
        )
        makes = outcome != "failed" and mode == "train"
        self._claim((made is not None) == makes, "round %s: model made or not", round_id)
        self._claim(
            (complete["num_updates"], complete["total_samples"], complete["status"])
            == (len(updates), sum(samples for _, _, samples, _ in updates), outcome),
            "round %s: its completion does not say what is kept",
            round_id,
        )
        missing = [p for p in start["participants"] if p not in known.kept]
        self._claim(complete["missing"] == missing, "round %s: who is missing", round_id)
        for (acked_round, proplet_id), sha256 in self.acked.items():
            if acked_round == round_id:
                self._claim(
                    known.kept.get(proplet_id) == sha256,
                    "round %s leaves out the acknowledged update of %s",
                    round_id,
                    proplet_id,
                )
        if made is not None:
            version, body = made
            self._claim(complete["model_version"] == version, "round %s: version", round_id)
            self._claim(
                body == self._model(start, updates, version),
                "model %s is not what its strategy makes",
                version,
            )
            sha256 = hashlib.sha256(body).hexdigest()
        else:
            sha256 = self._digests[start["model_uri"]]
        self._claim(complete["sha256"] == sha256, "round %s: digest of its model", round_id)

    def _model(self, start: dict[str, Any], updates: list[Any], version: int) -> bytes:
        """What the round's strategy makes of its updates."""
        if start["strategy"] == "fedavg":
            return fedavg(updates, version)
        uri, args = start["model_uri"], start["strategy_args"]
        lr, momentum = args["lr"], args["momentum"]
        body, is_ours = self._bodies[uri]
        document = json.loads(body)
        base = [float(np.float32(value)) for value in (*document["w"], document["b"])]
        # what was forgotten, and has come back from the broker, has lost its velocity
        before = self._velocities.get((uri, lr, momentum), []) if is_ours else []
        model, velocity = fedavgm(base, updates, before, lr, momentum)
        self._velocities[f"fl/models/global_model_v{version}", lr, momentum] = velocity
        return as_document(model, version)

    def _look_at_gone(self, known: Known, digest: str | None) -> None:
        round_id = known.start["round_id"]
        self._claim(known.closed, "round %s is gone and had not ended", round_id)
        self._claim(digest is not None, "round %s is gone without a trace", round_id)
        self._claim(digest == known.digest, "the id of %s is another round's", round_id)
        if not known.pruned:
            known.pruned = True
            self._claim(
                0 < self._keep_rounds < self._ended - known.ended,
                "round %s is pruned too early",
                round_id,
            )

    def done_with(self, topic: str) -> None:
        """The coordinator is about to let the broker forget a message: what it asks for is done."""
        if kind_of(topic) == "stop":
            round_id = topic.split("/")[2]
            known = self.rounds.get(round_id)
            self._claim(known is None or known.closed, "round %s goes on", round_id)
            if known is None:
                self._never.add(round_id)

    # --- what is said, before it gets anywhere

    def said(self, topic: str, payload: bytes) -> None:
        """The coordinator is about to say this."""
        kind = kind_of(topic)
        if not payload:
            round_id = topic.split("/")[2]
            self._claim(self.rounds[round_id].pruned, "round %s is cleared too early", round_id)
        elif kind == "ack":
            self._hear_ack(json.loads(payload))
        elif kind == "status":
            self._hear_status(json.loads(payload))
        elif kind == "complete":
            round_id = topic.split("/")[2]
            known = self.rounds[round_id]
            self._claim(known.complete == payload.decode(), "completion of %s", round_id)
        elif kind == "publish":
            version = json.loads(payload)["version"]
            self._claim(
                self.models.get(version) == payload, "model %s is not what is kept", version
            )

    def _hear_ack(self, ack: dict[str, Any]) -> None:
        round_id, proplet_id, reason = ack["round_id"], ack["proplet_id"], ack["reason"]
        known = self.rounds.get(round_id)
        if ack["status"] == "accepted":
            self._claim(
                known is not None and known.kept.get(proplet_id) == ack["sha256"],
                "an update of %s is acknowledged and not kept",
                proplet_id,
            )
            self.acked[round_id, proplet_id] = ack["sha256"]
            return
        self._claim(
            self.acked.get((round_id, proplet_id)) != ack["sha256"]
            or (known is not None and known.pruned),
            "an accepted update of %s is refused",
            proplet_id,
        )
        before = known is not None and known.seen_at_s < self._world.now_s
        self._claim(not (before and reason == "unknown_round"), "round %s is denied", round_id)
        if known is not None and before and not known.closed:
            self._claim(
                (round_id, proplet_id, reason) in self._refusals,
                "round %s has no record of a refusal",
                round_id,
            )

    def _hear_status(self, status: dict[str, Any]) -> None:
        round_id, phase = status["round_id"], status["phase"]
        known = self.rounds.get(round_id)
        self.answered.add((round_id, status["start_sha256"]))
        if phase == "refused":
            self._claim(
                known is None or known.digest != status["start_sha256"],
                "round %s was opened and is refused",
                round_id,
            )
            return
        self._claim(
            known is not None and known.digest == status["start_sha256"],
            "a status of %s, which is not there",
            round_id,
        )
        assert known is not None
        self._claim(phase == known.phase, "round %s is not %s", round_id, phase)
        if known.pruned:
            return
        deadline_at_s = known.opened_at_s + known.start["timeout_s"]
        self._claim(status["deadline_at_s"] == deadline_at_s, "deadline of %s", round_id)
        digest = self._digests[known.start["model_uri"]]
        self._claim(status["model_sha256"] == digest, "the model that %s is about", round_id)
        self._claim(set(status["answered"]) == known.kept.keys(), "round %s: who is in", round_id)

    # --- the broker

    def arrived(self, topic: str, payload: bytes, retain: bool) -> None:
        """Something has reached the broker."""
        if not payload:
            return
        match kind_of(topic):
            case "complete":
                name = topic.split("/")[2]
            case "publish":
                name = f"v{json.loads(payload)['version']}"
            case "launch":
                report = json.loads(payload)
                self._failed.setdefault(report["round_id"], set()).update(report["failed"])
                return
            case "stop":
                self._stops.add(topic.split("/")[2])
                return
            case "forwarded":
                self._sent[hashlib.sha256(payload).hexdigest()] = payload
                return
            case _:
                return
        first = self._arrived.setdefault(name, payload)
        self._claim(first == payload, "%s is published with other bytes", name)

    # --- the end

    def at_the_end(self, look: Look, retained: dict[str, bytes], starts: set[Any]) -> None:
        """Nothing is under way any more. ``starts``: those the broker had for the coordinator."""
        for start in starts:
            self._claim(start in self.answered, "start %s has had no answer", start)
        self._claim(not look("SELECT 1 FROM outbox"), "something is owed for ever")
        versions = sorted(self.models)
        for round_id, known in self.rounds.items():
            self._claim(known.closed, "round %s has not ended", round_id)
            self._claim(round_id in self._arrived, "round %s: no completion", round_id)
            complete = retained.get(f"fl/rounds/{round_id}/complete", b"")
            status = retained.get(f"fl/rounds/{round_id}/status", b"")
            if known.pruned:
                self._claim(not complete and not status, "%s is retained", round_id)
                continue
            self._claim(complete.decode() == known.complete, "%s: what is retained", round_id)
            self._claim(
                bool(status) and json.loads(status)["phase"] == known.phase,
                "round %s: the status that is retained",
                round_id,
            )
        for version in versions:
            self._claim(f"v{version}" in self._arrived, "model %s is unpublished", version)
        if self._keep_rounds:
            [(rounds,)] = look("SELECT count(*) FROM rounds")
            kept = min(self._keep_rounds, len(self.rounds))
            self._claim(rounds == kept, "%s rounds are kept, not %s", rounds, kept)


def fedavg(updates: list[Any], version: int) -> bytes:
    """The mean, one number at a time, as the document that is published."""
    vectors = [np.frombuffer(vector, "<f4").tolist() for *_, vector in updates]
    weights = [samples for _, _, samples, _ in updates]
    means = [
        sum((value * weight for value, weight in zip(column, weights, strict=True)), start=0.0)
        / sum(weights)
        for column in zip(*vectors, strict=True)
    ]
    return as_document(means, version)


def fedavgm(
    base: list[float], updates: list[Any], before: list[float], lr: float, momentum: float
) -> tuple[list[float], list[float]]:
    """The model and its velocity, one number at a time."""
    vectors = [np.frombuffer(vector, "<f4").tolist() for *_, vector in updates]
    weights = [samples for _, _, samples, _ in updates]
    model, velocity = [], []
    for position, start in enumerate(base):
        change = 0.0
        for vector, weight in zip(vectors, weights, strict=True):
            change += (vector[position] - start) * weight
        change /= sum(weights)
        velocity.append(change + momentum * before[position] if before else change)
        model.append(start + lr * velocity[-1])
    return model, velocity


def as_document(numbers: list[float], version: int) -> bytes:
    """As it is published."""
    *w, b = (str(np.float32(number)) for number in numbers)
    return f'{{"w":[{",".join(w)}],"b":{b},"version":{version}}}'.encode()
